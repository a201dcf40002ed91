// Chromium behind a link that carries less than the cameras have to say: what it is sent fits, is shared out by weight, and
// nobody else's picture suffers for it.
//
// The cameras play clips; LENSCAST_CLIPS names their directory. Links are network namespaces: see namespace.mjs.

import assert from "node:assert/strict";
import path from "node:path";
import { describe, test } from "node:test";

import { EXECUTABLE, launch, open, playerIn, until } from "./browser.mjs";
import { CpuWatch, judge } from "./cpu.mjs";
import { Link, skip } from "./namespace.mjs";
import { attachProbe } from "./probe.mjs";
import { Server } from "./server.mjs";

const clip = (name, file, rest = "") => `
[[camera]]
name = "${name}"
file = ${JSON.stringify(path.join(path.resolve(process.env.LENSCAST_CLIPS ?? "."), file))}
degradation = "disabled"
${rest}
`;

// Of a link's rate. What an estimate is over or under by, and what the measured ratio of two cameras is off by.
const TOLERANCE = 0.25;
// A fall is known within this.
const FALL_MS = 3_000;
const FREEZE_MS = 1_000;

describe("a browser behind a link", { skip }, () => {
  // A browser at the other end of a new link to a server that listens at this end, and its page.
  async function behind(t, toml, kbps) {
    const link = new Link(EXECUTABLE);
    t.after(() => link.remove());
    link.limit(kbps);
    const server = await Server.start(toml, {}, link.address);
    t.after(() => server.stop());
    return { link, server, ...(await view(t, server, link.executable)) };
  }

  async function view(t, server, executable) {
    const browser = await launch([], executable);
    t.after(() => browser.close());
    return open(browser, server, { prepare: attachProbe });
  }

  test("two cameras share 4, 0.8 and again 4 Mb/s by weight, and no picture stands still", async (t) => {
    const cameras = clip("front", "bikes.mp4", "weight = 2\nmax_kbps = 3000") + clip("rear", "bikes.mp4", "max_kbps = 3000");
    const { link, server, page } = await behind(t, cameras, 4_000);
    await Promise.all(["front", "rear"].map((name) => playerIn(page, name, "live")));
    await watch(page);
    const cpu = new CpuWatch();
    const phases = [];
    for (const kbps of [4_000, 800, 4_000]) {
      const from = await page.evaluate(() => performance.now());
      link.limit(kbps);
      const estimates = await estimatesFor(server, page, 20_000);
      phases.push({ kbps, from, estimates, until: await page.evaluate(() => performance.now()) });
    }
    const seen = await page.evaluate(() => window.watched);

    for (const [index, { kbps, from, until, estimates }] of phases.entries()) {
      for (let at = from; at < until; at += 1_000) {
        const rates = ["front", "rear"].map((name) => rateOf(seen[name].readings, at, 1_000));
        const estimate = estimates.findLast((estimate) => estimate.at <= at + 1_000);
        t.diagnostic(
          `link ${kbps} kb/s, ${Math.round((at - from) / 1_000)} s: estimate ${Math.round(estimate?.kbps ?? NaN)}, ` +
            `received ${rates.map(Math.round).join(" + ")} kb/s, ratio ${(rates[0] / rates[1]).toFixed(2)}`,
        );
      }
      // A camera's encoder needs a moment at each new rate.
      const settled = from + 3_000;
      const ratio = rateOf(seen.front.readings, settled, until - settled) / rateOf(seen.rear.readings, settled, until - settled);
      judge(t, cpu, Math.abs(ratio / 2 - 1) <= TOLERANCE, `at ${kbps} kb/s 2 : 1 was received as ${ratio.toFixed(2)} : 1`);
      if (index !== 1) continue;
      const isNear = (estimate) => Math.abs(estimate / kbps - 1) <= TOLERANCE;
      const found = estimates.find(({ at, kbps: estimate }) => at > from && isNear(estimate))?.at - from;
      const after = estimates.filter(({ at }) => at >= from + FALL_MS).map(({ kbps }) => kbps);
      const near = after.filter(isNear).length / after.length;
      const middle = after.toSorted((a, b) => a - b)[after.length >> 1];
      t.diagnostic(`the fall was known after ${Math.round(found)} ms; from ${FALL_MS} ms on the median estimate is ${Math.round(middle)} kb/s, ${Math.round(near * 100)} % are near the link's rate`);
      judge(t, cpu, found <= FALL_MS, `the fall was known only after ${found} ms`);
      judge(t, cpu, isNear(middle), `the median estimate of a link of ${kbps} kb/s is ${middle} kb/s`);
      judge(t, cpu, near >= 0.7, `${near} of all estimates are near the link's rate`);
    }
    for (const [name, { frames }] of Object.entries(seen)) {
      const longest = Math.max(...frames.slice(1).map((at, index) => at - frames[index]));
      t.diagnostic(`${name}: ${frames.length} pictures, the longest stood for ${Math.round(longest)} ms`);
      judge(t, cpu, longest <= FREEZE_MS, `${name}'s picture stood still for ${longest} ms`);
    }
  });

  test("a viewer behind 0.5 Mb/s gets a small picture, and takes nothing from one without a limit", async (t) => {
    const { link, server, page: thin } = await behind(t, clip("front", "bigbuckbunny.mp4", "layers = 2\nmax_kbps = 2500"), 500);
    await thin.goto("about:blank");
    const { page: fast } = await view(t, server, EXECUTABLE);
    await playerIn(fast, "front", "live");
    await watch(fast);
    const cpu = new CpuWatch();
    const alone = await reception(fast, 8_000);
    await thin.goto(server.url);
    await playerIn(thin, "front", "live");
    await watch(thin);
    // Until the thin one has found out what it is.
    await until(thin, () => window.watched.front.readings.at(-1)?.frameWidth < 1_280, null, 10_000);
    const [beside, small] = await Promise.all([reception(fast, 10_000), reception(thin, 10_000)]);
    for (const [name, it] of Object.entries({ "fast, alone": alone, "fast, beside the thin one": beside, "thin": small }))
      t.diagnostic(`${name}: ${it.width}x${it.height}, ${it.fps.toFixed(1)} frames/s, ${Math.round(it.kbps)} kb/s, quantizer ${it.quantizer.toFixed(1)}, ${it.freezes} freezes, longest picture ${Math.round(it.longestMs)} ms`);
    assert.equal(link.address, new URL(server.url).hostname);
    assert.deepEqual([beside.width, beside.height], [alone.width, alone.height]);
    judge(t, cpu, beside.kbps >= 0.85 * alone.kbps, "the fast viewer receives less than before");
    judge(t, cpu, beside.fps >= 0.9 * alone.fps, "the fast viewer sees fewer pictures than before");
    judge(t, cpu, beside.freezes === 0, "the fast viewer's picture froze");
    judge(t, cpu, small.kbps <= 500, "the thin viewer receives more than its link carries");
    judge(t, cpu, small.longestMs <= FREEZE_MS, "the thin viewer's picture stood still");
    judge(t, cpu, small.fps >= 0.8 * alone.fps, "the thin viewer sees a part of the pictures only");
  });
});

// Writes down when each camera's pictures are shown, and every tenth of a second what its statistics say.
function watch(page) {
  return page.evaluate(() => {
    window.watched = {};
    for (const tile of document.querySelectorAll("[data-camera]")) {
      const video = tile.querySelector("video");
      const { frames, readings } = (window.watched[tile.dataset.camera] = { frames: [], readings: [] });
      const shown = (now) => {
        frames.push(now);
        video.requestVideoFrameCallback(shown);
      };
      video.requestVideoFrameCallback(shown);
      const read = async () => {
        const track = video.srcObject?.getVideoTracks()[0];
        const receiver = window.probe.connections.flatMap((connection) => connection.getReceivers()).find((receiver) => receiver.track === track);
        const report = await receiver?.getStats();
        const inbound = [...(report?.values() ?? [])].find(({ type, kind }) => type === "inbound-rtp" && kind === "video");
        if (inbound) {
          const { bytesReceived, framesDecoded, freezeCount = 0, qpSum, frameWidth, frameHeight, timestamp } = inbound;
          readings.push({ at: timestamp - performance.timeOrigin, bytesReceived, framesDecoded, freezeCount, qpSum, frameWidth, frameHeight });
        }
        setTimeout(read, 100);
      };
      read();
    }
  });
}

// What a page receives of its camera in this time from now.
async function reception(page, ms) {
  const from = await page.evaluate(() => performance.now());
  await until(page, (at) => performance.now() >= at, from + ms, ms + 10_000);
  const { frames, readings } = await page.evaluate(() => window.watched.front);
  const [first, last] = [readings.find(({ at }) => at >= from), readings.at(-1)];
  const seconds = (last.at - first.at) / 1_000;
  const shown = frames.filter((at) => at >= from);
  return {
    width: last.frameWidth,
    height: last.frameHeight,
    fps: (last.framesDecoded - first.framesDecoded) / seconds,
    kbps: ((last.bytesReceived - first.bytesReceived) * 8) / 1_000 / seconds,
    quantizer: (last.qpSum - first.qpSum) / (last.framesDecoded - first.framesDecoded),
    freezes: last.freezeCount - first.freezeCount,
    longestMs: Math.max(...shown.slice(1).map((at, index) => at - shown[index])),
  };
}

// Every estimate of the only viewer in this time from now, by the page's clock.
async function estimatesFor(server, page, ms) {
  const estimates = [];
  const end = (await page.evaluate(() => performance.now())) + ms;
  for (;;) {
    const [{ viewers }, at] = await Promise.all([server.api("viewers"), page.evaluate(() => performance.now())]);
    const bitrate = viewers[0]?.connection?.availableOutgoingBitrate;
    if (bitrate) estimates.push({ at, kbps: bitrate / 1_000 });
    if (at >= end) return estimates;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

// kb/s between `from` and `ms` later.
function rateOf(readings, from, ms) {
  const within = readings.filter(({ at }) => at >= from - 60 && at <= from + ms + 60);
  if (within.length < 2) return NaN;
  const [first, last] = [within[0], within.at(-1)];
  return ((last.bytesReceived - first.bytesReceived) * 8) / (last.at - first.at);
}
