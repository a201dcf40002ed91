// Temporal layers: a browser that is sent all of them shows every frame, in each codec. (VP9's receivers take a frame's
// references from the pattern that the last key frame announced: what it says wrongly shows as frames that are never decoded.)

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { launch, open, playerIn, until } from "./browser.mjs";
import { CpuWatch, judge } from "./cpu.mjs";
import { attachProbe, received } from "./probe.mjs";
import { Server } from "./server.mjs";

const FRAMES = 90;

const camera = (codec, layers) => `
[[camera]]
name = "pattern"
pattern = true
width = 640
height = 360
codec = "${codec}"
temporal_layers = ${layers}
`;

describe("temporal layers in a browser", () => {
  let browser;
  before(async () => {
    browser = await launch();
  });
  after(() => browser.close());

  for (const codec of ["vp8", "vp9", "h264"]) {
    for (const layers of [2, 3]) {
      test(`shows every frame of ${codec} in ${layers}`, async (t) => {
        const server = await Server.start(camera(codec, layers));
        t.after(() => server.stop());
        const { page, context } = await open(browser, server, { viewport: { width: 800, height: 600 }, prepare: attachProbe });
        t.after(() => context.close());
        await playerIn(page, "pattern", "live");
        const cpu = new CpuWatch();
        const from = await reading(server, page);
        await server.cameraThat("pattern", ({ stats }) => stats.framesEncoded >= from.encoded + FRAMES);
        const to = await reading(server, page);
        const [encoded, decoded] = ["encoded", "decoded"].map((name) => to[name] - from[name]);
        const { packetsLost, freezeCount, framesDropped } = await received(page);
        t.diagnostic(`${codec} L1T${layers}: ${encoded} encoded, ${decoded} decoded, ${freezeCount} freezes, ${framesDropped} dropped`);
        const { encoder } = await server.camera("pattern");
        assert.equal(encoder.scalabilityMode, `L1T${layers}`);
        assert.equal(packetsLost, 0);
        // Some are under way.
        assert.ok(decoded >= encoded * 0.9 - 3, `${decoded} of ${encoded} frames were decoded`);
        judge(t, cpu, freezeCount === 0, `${freezeCount} freezes`);
      });
    }
  }
});

async function reading(server, page) {
  const { stats } = await server.camera("pattern");
  return { encoded: stats.framesEncoded, decoded: (await received(page)).framesDecoded };
}
