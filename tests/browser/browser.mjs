// Chromium, driven by playwright: one process for a test file, a fresh profile, nothing but loopback.

import path from "node:path";
import { chromium } from "playwright-core";

export const EXECUTABLE = process.env.LENSCAST_CHROMIUM || "/usr/bin/chromium";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--autoplay-policy=no-user-gesture-required",
  "--allow-loopback-in-peer-connection",
];

// A camera that is none, and nobody who must be asked for it.
export const FAKE_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];

export function launch(flags = [], executablePath = EXECUTABLE) {
  return chromium.launch({ executablePath, headless: true, args: [...FLAGS, ...flags] });
}

export const ROOT = path.resolve(import.meta.dirname, "../..");

// Where tests put pictures of what they saw.
export const OUTPUT = path.join(ROOT, "test-output");

// Opens the page of `server` in a context of its own, to which `prepare` does beforehand what it wants.
export async function open(browser, server, { hash = "", prepare = () => {}, ...options } = {}) {
  const context = await browser.newContext(options);
  await prepare(context);
  return { context, ...(await openTab(context, server, hash)) };
}

// Opens the page of `server` in another tab. What it logs as an error and where its requests go is kept: a page that works
// does neither log errors nor ask anybody else.
export async function openTab(context, server, hash = "") {
  const page = await context.newPage();
  const seen = { errors: [], elsewhere: [] };
  const origin = new URL(server.url).origin;
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") seen.errors.push(`${message.text()} (${message.location().url})`);
  });
  page.on("pageerror", (error) => seen.errors.push(String(error.stack ?? error)));
  page.on("request", (request) => {
    const { protocol, origin: asked } = new URL(request.url());
    if (protocol !== "data:" && protocol !== "blob:" && asked !== origin) seen.elsewhere.push(request.url());
  });
  await page.goto(server.url + hash);
  return { page, seen };
}

// What the page's player knows of a camera; undefined if there is none of that name.
export function player(page, name) {
  return page.evaluate((name) => window.lenscast?.players().find((player) => player.name === name), name);
}

// Waits until `condition`, a function without surroundings that runs in the page, returns something true of `argument`;
// resolves with that. (playwright's own waitForFunction evaluates text in the page, which the page's policy forbids.)
export async function until(page, condition, argument = null, timeout = 15_000) {
  const poll = `new Promise((resolve) => {
    const deadline = performance.now() + ${timeout};
    const look = () => {
      const found = (${condition})(${JSON.stringify(argument)});
      if (found || performance.now() > deadline) resolve(found);
      else setTimeout(look, 20);
    };
    look();
  })`;
  const found = await page.evaluate(poll);
  if (found) return found;
  const players = await page.evaluate(() => window.lenscast?.players?.() ?? window.lenscast?.publisher?.());
  throw new Error(`not within ${timeout} ms: ${condition} of ${JSON.stringify(argument)}; players: ${JSON.stringify(players)}`);
}

// Waits until the player of `camera` is in `state`; resolves with what it knows.
export function playerIn(page, camera, state, timeout) {
  const condition = ({ camera, state }) =>
    window.lenscast?.players().find((player) => player.name === camera && player.state === state);
  return until(page, condition, { camera, state }, timeout);
}
