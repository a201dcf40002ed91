// The whole way, from the pattern camera to the canvas of a browser: every frame arrives, in order, soon, and is encoded once
// however many watch. What is printed is measured; what depends on having the machine to oneself is judged only if one had.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { launch, open, openTab, player, playerIn, until } from "./browser.mjs";
import { picturesRead, watchBurnIn } from "./burn_in.mjs";
import { CpuWatch, judge } from "./cpu.mjs";
import { attachProbe, firstFrameMs, received } from "./probe.mjs";
import { Server } from "./server.mjs";
import { quantile } from "../../web/latency.js";

const SECONDS = 20;
const FPS = 30;
const FRAME_MS = 1_000 / FPS;
const VIEWPORT = { width: 1_440, height: 900 };

// Of the frames that were to be seen.
const ENOUGH = 0.95;
const FIRST_FRAME_MS = 1_000;

const pattern = (codec) => `
[[camera]]
name = "pattern"
pattern = true
width = 1280
height = 720
fps = ${FPS}
codec = "${codec}"
`;

const ms = (value) => `${value.toFixed(1)} ms`;
const share = (value) => `${(value * 100).toFixed(1)} %`;

describe("the pattern camera in a browser", () => {
  let browser;
  before(async () => {
    browser = await launch();
  });
  after(() => browser.close());

  for (const codec of ["vp8", "vp9", "h264"]) {
    test(`plays ${SECONDS} s of ${codec}`, async (t) => {
      const server = await Server.start(pattern(codec));
      t.after(() => server.stop());
      const { page, seen, context } = await open(browser, server, { viewport: VIEWPORT, prepare: attachProbe });
      t.after(() => context.close());
      await playerIn(page, "pattern", "live");
      const first = await firstFrameMs(page, "pattern");
      await until(page, () => window.lenscast.players()[0].latencyMs.p50 !== null);

      const cpu = new CpuWatch();
      await watchBurnIn(page, "pattern");
      const before = await reading(server, page);
      await until(page, (until) => window.burnIn.pictures.at(-1)?.readUnixMs >= until, before.unixMs + SECONDS * 1_000, SECONDS * 2_000);
      const pictures = await picturesRead(page);
      const after = await reading(server, page);

      const { latencyMs, clockErrorMs, state, sessions } = await player(page, "pattern");
      const { freezeCount, packetsLost } = await received(page);
      const latencies = pictures.map(({ readUnixMs, capturedUnixMs }) => readUnixMs - capturedUnixMs);
      const [p50, p95] = [quantile(latencies, 0.5), quantile(latencies, 0.95)];
      const since = (name) => after[name] - before[name];
      const announced = pictures.filter(({ isAnnounced }) => isAnnounced);
      t.diagnostic(
        `${codec}: ${since("captured")} frames captured, ${since("encoded")} encoded, ${since("sent")} sent, ${since("decoded")} decoded, ` +
          `${pictures.length} pictures on the canvas; freezes ${freezeCount}, packets lost ${packetsLost}; ` +
          `first frame ${ms(first)} after the offer; capture to canvas p50 ${ms(p50)}, p95 ${ms(p95)}; the page says p50 ` +
          `${ms(latencyMs.p50)}, p95 ${ms(latencyMs.p95)} (clock ± ${ms(clockErrorMs)}); ${after.sentLatency}; others used ${share(cpu.shares.others)}`,
      );

      // What is right on any machine.
      assert.deepEqual([state, sessions, seen.errors, seen.elsewhere], ["live", 1, [], []]);
      assert.equal(packetsLost, 0);
      assert.ok(since("decoded") >= ENOUGH * since("sent"), `${since("decoded")} of ${since("sent")} frames sent were decoded`);
      assert.ok(pictures.every(({ number }) => number !== null), "a picture's code could not be read");
      const disorder = announced.findIndex(({ number }, index) => index > 0 && number <= announced[index - 1].number);
      assert.equal(disorder, -1, `out of order: ${JSON.stringify(announced.slice(Math.max(0, disorder - 2), disorder + 1))}`);
      assert.ok(announced.length >= pictures.length / 2, "most pictures are those the browser announced");
      const tail = pictures.filter(({ readUnixMs }) => readUnixMs > pictures.at(-1).readUnixMs - 5_000);
      const difference = latencyMs.p50 - quantile(tail.map(({ readUnixMs, capturedUnixMs }) => readUnixMs - capturedUnixMs), 0.5);
      assert.ok(Math.abs(difference) < 2 * FRAME_MS + clockErrorMs, `the page's latency is ${ms(difference)} off`);

      // What is right on a machine that has time for it.
      judge(t, cpu, since("decoded") >= ENOUGH * since("captured"), `${since("decoded")} of ${since("captured")} frames captured were decoded`);
      judge(t, cpu, since("captured") >= ENOUGH * SECONDS * FPS, `${since("captured")} frames captured in ${SECONDS} s`);
      judge(t, cpu, freezeCount === 0, `${freezeCount} freezes`);
      judge(t, cpu, first <= FIRST_FRAME_MS, `first frame ${ms(first)} after the offer`);
    });
  }

  test("is encoded once for three tabs, and not at all for none", async (t) => {
    const server = await Server.start(pattern("vp8"));
    t.after(() => server.stop());
    const cpu = new CpuWatch();
    // Small, since three browsers that decode and draw on two cores leave the encoder little.
    const { page, context } = await open(browser, server, { viewport: { width: 480, height: 360 }, prepare: attachProbe });
    t.after(() => context.close());
    await playerIn(page, "pattern", "live");
    const tabs = [page];
    for (const which of ["second", "third"]) {
      const { page } = await openTab(context, server);
      await playerIn(page, "pattern", "live");
      const first = await firstFrameMs(page, "pattern");
      t.diagnostic(`${which} tab: first frame ${ms(first)} after the offer`);
      judge(t, cpu, first <= FIRST_FRAME_MS, `${which} tab: first frame ${ms(first)} after the offer`);
      tabs.push(page);
    }

    await server.cameraThat("pattern", ({ viewerCount }) => viewerCount === 3);
    // Sent is asked for before encoded and after it, so that no frame can be missing that was merely under way.
    const [sentFrom, from] = [await framesSent(server, tabs), await server.camera("pattern")];
    const to = await server.cameraThat("pattern", ({ timestamp }) => timestamp >= from.timestamp + 3_000);
    const sent = (await framesSent(server, tabs)).map((frames, index) => frames - sentFrom[index]);
    const seconds = (to.timestamp - from.timestamp) / 1_000;
    const [captured, encoded] = ["frames", "framesEncoded"].map((name) => to.stats[name] - from.stats[name]);
    t.diagnostic(`three tabs, ${seconds.toFixed(1)} s: ${captured} frames captured, ${encoded} encoded (${(encoded / seconds).toFixed(1)}/s), sent ${sent}`);
    // Counters of one answer may be a frame or two apart.
    assert.ok(encoded <= captured + 2, "a frame is encoded at most once");
    assert.ok(sent.every((sent) => sent >= encoded - 2), "each viewer gets every encoded frame");
    judge(t, cpu, Math.abs(encoded / seconds - FPS) < 0.1 * FPS, `${encoded} frames encoded in ${seconds} s`);

    await Promise.all(tabs.map((tab) => tab.close()));
    const idle = await server.cameraThat("pattern", ({ viewerCount, stats }) => viewerCount === 0 && !stats.active);
    const later = await server.cameraThat("pattern", ({ stats }) => stats.frames >= idle.stats.frames + FPS);
    assert.equal(later.stats.framesEncoded, idle.stats.framesEncoded, "nothing is encoded for nobody");
  });
});

// Counters of the camera, of its only viewer, and of that viewer's browser.
async function reading(server, page) {
  const { stats, recentLatencyMs, timestamp } = await server.camera("pattern");
  const { p50, p95 } = recentLatencyMs.capture_to_sent;
  const [sent] = await framesSent(server, [page]);
  return {
    captured: stats.frames,
    encoded: stats.framesEncoded,
    sent,
    decoded: (await received(page)).framesDecoded,
    sentLatency: `capture to sent p50 ${ms(p50)}, p95 ${ms(p95)}`,
    unixMs: timestamp,
  };
}

// How many frames each tab was sent.
function framesSent(server, tabs) {
  const sent = tabs.map(async (tab) => {
    const { sessionSecret } = await player(tab, "pattern");
    const { stats } = await server.api(`sessions/${sessionSecret}`);
    return stats.framesSent;
  });
  return Promise.all(sent);
}
