// Several cameras over one connection.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { launch, open, player, playerIn, until } from "./browser.mjs";
import { attachProbe, requests } from "./probe.mjs";
import { Server } from "./server.mjs";

// Small and slow: these tests are not about how much a machine can do.
const small = (name, rest = "") => `
[[camera]]
name = "${name}"
pattern = true
width = 320
height = 240
fps = 15
${rest}
`;

describe("players that begin together", () => {
  let browser;
  before(async () => {
    browser = await launch();
  });
  after(() => browser.close());

  async function show(t, toml, { prepare = () => {}, ...options } = {}) {
    const server = await Server.start(toml);
    t.after(() => server.stop());
    const prepared = async (context) => {
      await attachProbe(context);
      await prepare(context);
    };
    const shown = await open(browser, server, { prepare: prepared, ...options });
    t.after(() => shown.context.close());
    return { server, ...shown };
  }

  // Connections that are neither closed nor never were.
  const connected = (page) => page.evaluate(() => window.probe.connections.filter(({ connectionState }) => connectionState === "connected").length);

  // What the page has asked of the server by POST and DELETE, without the session's secrets.
  const changes = async (page) => (await requests(page))
    .filter(({ method }) => method !== "GET")
    .map(({ method, pathname }) => `${method} ${pathname.replace(/[0-9a-f]{32}/, "…")}`);

  const secrets = (page) => page.evaluate(() => window.lenscast.players().map(({ sessionSecret }) => sessionSecret));

  test("have one session and one connection, each its own pictures and figures", async (t) => {
    const { page, server, seen } = await show(t, small("front") + small("rear", 'codec = "h264"') + small("side", 'codec = "vp9"'));
    const names = ["front", "rear", "side"];
    for (const name of names) await playerIn(page, name, "live");
    assert.deepEqual((await changes(page)).filter((change) => change.startsWith("POST")), ["POST /whep/front,rear,side"]);
    assert.equal(await connected(page), 1);
    assert.equal(new Set(await secrets(page)).size, 1);
    const codecs = () => {
      const views = window.lenscast.players();
      return views.every(({ figures, latencyMs }) => figures?.codec && latencyMs.p50 !== null) && views.map(({ figures }) => figures.codec);
    };
    assert.deepEqual(await until(page, codecs), ["video/VP8", "video/H264", "video/VP9"]);
    // Each stream's clock is its own: the age of its pictures says so.
    const ages = await page.evaluate(() => window.lenscast.players().map(({ latencyMs }) => latencyMs.p50));
    assert.ok(ages.every((age) => age > 0 && age < 2_000), ages.join());
    for (const name of names) assert.equal((await server.camera(name)).viewerCount, 1);
    await page.goto("about:blank");
    for (const name of names) await server.cameraThat(name, ({ viewerCount, stats }) => viewerCount === 0 && !stats.active);
    assert.deepEqual(seen, { errors: [], elsewhere: [] });
  });

  test("one that is scrolled away is paused alone, and goes on in the same session", async (t) => {
    const names = Array.from({ length: 10 }, (_, index) => `camera-${index}`);
    const phone = { viewport: { width: 390, height: 700 }, hasTouch: true, isMobile: true };
    const { page, server } = await show(t, names.map((name) => small(name, "max_kbps = 100")).join(""), phone);
    const { sessionSecret } = await playerIn(page, "camera-0", "live");
    const shared = await page.evaluate((secret) => window.lenscast.players().filter(({ sessionSecret }) => sessionSecret === secret).map(({ name }) => name), sessionSecret);
    assert.ok(shared.length > 1, shared.join());
    const last = shared.at(-1);
    await playerIn(page, last, "live");
    // Far enough down for the first to be out of sight, and the last of the first screen not yet.
    await page.locator(`[data-camera="${last}"]`).evaluate((tile) => window.scrollTo(0, tile.offsetTop - 100));
    await playerIn(page, "camera-0", "paused");
    const paused = async () => {
      const { media } = await server.api(`sessions/${sessionSecret}`);
      return media.filter(({ paused }) => paused).map(({ camera }) => camera);
    };
    for (const deadline = Date.now() + 10_000; !(await paused()).includes("camera-0"); ) assert.ok(Date.now() < deadline);
    await server.cameraThat("camera-0", ({ stats }) => !stats.active);
    assert.equal((await playerIn(page, last, "live")).sessionSecret, sessionSecret);
    await page.evaluate(() => window.scrollTo(0, 0));
    const again = await playerIn(page, "camera-0", "live");
    assert.equal(again.sessionSecret, sessionSecret, "the same session");
    assert.ok(!(await paused()).includes("camera-0"));
  });

  test("one whose camera ends and comes back has a new session, and the others keep theirs", async (t) => {
    const { page, server } = await show(t, small("front") + small("rear"));
    const { sessionSecret } = await playerIn(page, "rear", "live");
    assert.equal((await playerIn(page, "front", "live")).sessionSecret, sessionSecret);
    // Another size: this camera begins anew.
    await server.put("lenscast.toml", small("front") + small("rear").replace("320", "640").replace("240", "480"));
    server.reload();
    await until(page, () => window.lenscast.players().find(({ name }) => name === "rear").figures?.width === 640, undefined, 20_000);
    const again = await playerIn(page, "rear", "live");
    assert.notEqual(again.sessionSecret, sessionSecret);
    const other = await player(page, "front");
    assert.deepEqual([other.state, other.sessions, other.sessionSecret], ["live", 1, sessionSecret]);
  });

  test("come back together when the server was gone", async (t) => {
    const { page, server } = await show(t, small("front") + small("rear"));
    await playerIn(page, "front", "live");
    const { sessionSecret } = await playerIn(page, "rear", "live");
    await server.end("SIGTERM");
    await playerIn(page, "front", "reconnecting");
    await server.restart();
    const front = await playerIn(page, "front", "live", 20_000);
    const rear = await playerIn(page, "rear", "live", 20_000);
    assert.notEqual(front.sessionSecret, sessionSecret);
    assert.equal(front.sessionSecret, rear.sessionSecret);
    assert.equal(await connected(page), 1);
  });

  test("have sessions of their own where the server refuses one for all", async (t) => {
    const prepare = (context) => context.route(/\/whep\/[^/]*,[^/]*$/, (route) =>
      route.fulfill({ status: 404, contentType: "application/problem+json", body: '{"detail": "no camera is called that"}' }));
    const { page } = await show(t, small("front") + small("rear"), { prepare });
    await playerIn(page, "front", "live");
    await playerIn(page, "rear", "live");
    assert.deepEqual((await changes(page)).filter((change) => change.startsWith("POST")), ["POST /whep/front,rear", "POST /whep/front", "POST /whep/rear"]);
    assert.equal(new Set(await secrets(page)).size, 2);
  });

  test("stay together where the connection has no room for one of them", async (t) => {
    const uplink = "[bandwidth]\nmax_uplink_kbps = 600\nstart_kbps = 300\n";
    const { page, server } = await show(t, small("front", "weight = 3\nmin_kbps = 400") + small("rear", "min_kbps = 300") + uplink);
    await playerIn(page, "front", "live");
    const { reason } = await playerIn(page, "rear", "squeezed");
    assert.match(reason, /carries too little/);
    // For longer than a player waits for pictures that ought to come.
    const from = await page.evaluate(() => performance.now());
    await until(page, (from) => performance.now() - from > 6_000, from);
    assert.deepEqual(await changes(page), ["POST /whep/front,rear"]);
    assert.equal((await player(page, "rear")).state, "squeezed");
    await server.change({ cameras: { front: { minKbps: 50 }, rear: { minKbps: 50 } } });
    await playerIn(page, "rear", "live");
    assert.deepEqual(await changes(page), ["POST /whep/front,rear"]);
  });

  test("have one place each where the server counts viewers", async (t) => {
    const { page } = await show(t, `[webrtc]\nmax_viewers = 1\n${small("front")}${small("rear")}`);
    await until(page, () => window.lenscast.players().filter(({ state }) => state === "live").length === 1);
    const reasons = await until(page, () => window.lenscast.players().map(({ reason }) => reason).filter(Boolean));
    assert.match(reasons[0], /in use/);
  });

  test("choose their layers each for itself", async (t) => {
    const layered = (name) => small(name, "layers = 2").replace("320", "640").replace("240", "480");
    const { page, server } = await show(t, layered("front") + layered("rear"));
    await playerIn(page, "front", "live");
    const { sessionSecret } = await playerIn(page, "rear", "live");
    await page.getByLabel("Quality of rear").selectOption({ index: 1 });
    const widths = () => window.lenscast.players().map(({ figures }) => figures?.width).join();
    await until(page, (wanted) => window.lenscast.players().map(({ figures }) => figures?.width).join() === wanted, "640,320");
    const { media } = await server.api(`sessions/${sessionSecret}`);
    assert.deepEqual(media.map(({ layer }) => layer), [null, 0]);
    await page.getByLabel("Quality of rear").selectOption({ index: 0 });
    await until(page, (wanted) => window.lenscast.players().map(({ figures }) => figures?.width).join() === wanted, "640,640");
    assert.equal(await page.evaluate(widths), "640,640");
    assert.deepEqual(await page.evaluate(() => window.lenscast.players().map(({ sessions }) => sessions)), [1, 1]);
  });
});
