// The page in the hands of its user: what it shows, and what it does when things go wrong.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { launch, open, openTab, player, playerIn, until } from "./browser.mjs";
import { attachProbe, requests } from "./probe.mjs";
import { Server } from "./server.mjs";
import { y4m } from "./y4m.mjs";

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

const gate = `
[[camera]]
name = "gate"
file = "gate.y4m"
`;

describe("the page", () => {
  let browser;
  before(async () => {
    browser = await launch();
  });
  after(() => browser.close());

  // A server and its page, both gone after the test.
  async function show(t, toml, { files, ...options } = {}) {
    const server = await Server.start(toml, files);
    t.after(() => server.stop());
    const shown = await open(browser, server, { prepare: attachProbe, ...options });
    t.after(() => shown.context.close());
    return { server, ...shown };
  }

  test("shows every camera with its state and its figures", async (t) => {
    const { page, seen } = await show(t, small("front") + small("rear.left", 'codec = "h264"') + gate);
    await Promise.all([playerIn(page, "front", "live"), playerIn(page, "rear.left", "live"), playerIn(page, "gate", "degraded")]);
    await until(page, () => document.querySelector("[data-page=summary]").textContent === "2 of 3 live");
    const tiles = page.locator(".tile");
    assert.deepEqual(await tiles.locator("h2").allTextContents(), ["front", "rear.left", "gate"]);

    const figures = (camera) => {
      const places = document.querySelectorAll(`[data-camera="${camera}"] .figures dd`);
      const texts = [...places].map((place) => place.textContent);
      return texts.every((text) => text !== "–") && texts;
    };
    const [latency, rate, bitrate, size, sent, roundTrip, loss, codec] = await until(page, figures, "rear.left");
    assert.match(latency, /^[\d.]+ ms$/);
    assert.match(rate, /^[\d.]+ fps$/);
    assert.match(bitrate, /^[\d.]+ (kb|Mb)\/s$/);
    assert.match(sent, /^[\d.]+\/[\d.]+ ms$/);
    assert.match(roundTrip, /^(<1|[\d.]+) ms$/);
    assert.deepEqual([size, loss, codec], ["320×240", "0 %", "H264"]);

    const reason = await page.locator('[data-camera="gate"] .reason').innerText();
    assert.match(reason, /gate\.y4m.*No such file/);
    assert.deepEqual(await page.locator('[data-camera="gate"] .figures dd').allTextContents().then((texts) => texts.slice(0, 3)), ["–", "–", "–"]);
    assert.deepEqual(seen, { errors: [], elsewhere: [] });
  });

  test("enlarges a camera on click, and by keyboard, and goes back", async (t) => {
    const { page, server, seen } = await show(t, small("front") + small("rear") + small("side"));
    const large = () => page.locator(".tile.large h2").allTextContents();
    const hash = () => page.evaluate(() => location.hash);
    await playerIn(page, "rear", "live");

    await page.getByRole("button", { name: "Enlarge rear" }).click();
    assert.deepEqual([await large(), await hash(), await page.title()], [["rear"], "#rear", "rear – lenscast"]);
    const boxes = await page.locator(".tile").evaluateAll((tiles) => tiles.map((tile) => tile.querySelector("video").clientWidth));
    assert.ok(boxes[1] > 2 * boxes[0], `large ${boxes[1]} px, small ${boxes[0]} px`);
    const details = await page.locator(".large .details dd").allTextContents();
    assert.ok(details.length >= 12 && details.every((text) => text !== ""), details.join("|"));
    await page.getByRole("button", { name: "Full screen" }).click();
    await until(page, () => document.fullscreenElement?.clientWidth === screen.width);
    await page.getByRole("button", { name: "Full screen" }).click();
    await until(page, () => !document.fullscreenElement);
    assert.deepEqual(await large(), ["rear"]);
    // The others go on beside it.
    assert.equal(await page.locator('.tile[data-state="live"]').count(), await page.locator(".tile").count());

    await page.keyboard.press("ArrowRight");
    assert.deepEqual([await large(), await hash()], [["side"], "#side"]);
    await page.keyboard.press("ArrowRight");
    assert.deepEqual(await large(), ["front"]);
    await page.keyboard.press("ArrowLeft");
    assert.deepEqual(await large(), ["side"]);
    await page.keyboard.press("Escape");
    assert.deepEqual([await large(), await hash(), await page.title()], [[], "", "lenscast"]);

    await page.goBack();
    assert.deepEqual(await large(), ["side"], "the browser's way back works");
    await page.getByRole("button", { name: "Back to all cameras" }).click();
    assert.deepEqual(await large(), []);

    // By keyboard alone.
    await page.getByRole("button", { name: "Enlarge front" }).focus();
    await page.keyboard.press("Enter");
    assert.deepEqual(await large(), ["front"]);
    await page.keyboard.press("Enter");
    assert.deepEqual(await large(), []);

    const linked = await openTab(page.context(), server, "#rear");
    await playerIn(linked.page, "rear", "live");
    assert.deepEqual(await linked.page.locator(".tile.large h2").allTextContents(), ["rear"]);
    // No video was interrupted by any of it.
    assert.deepEqual(await page.evaluate(() => window.lenscast.players().map(({ sessions }) => sessions)), [1, 1, 1]);
    assert.deepEqual(seen, { errors: [], elsewhere: [] });
  });

  test("says why a camera is degraded, and plays it once it is there", async (t) => {
    const { page, server, seen } = await show(t, gate);
    await playerIn(page, "gate", "degraded");
    assert.equal(await page.locator(".state").innerText(), "degraded");
    await until(page, () => /^gate is degraded\. .*No such file/.test(document.querySelector("[data-page=announcer]").textContent));
    assert.ok(!(await requests(page)).some(({ method }) => method === "POST"), "what cannot play is not asked for");
    await server.put("gate.y4m", y4m());
    const { sessions, pictures } = await playerIn(page, "gate", "live");
    assert.ok(sessions === 1 && pictures > 0);
    await page.locator(".notice").waitFor({ state: "hidden" });
    assert.deepEqual(seen, { errors: [], elsewhere: [] });
  });

  for (const signal of ["SIGTERM", "SIGKILL"]) {
    test(`plays again by itself after the server ended by ${signal} and came back`, async (t) => {
      const { page, server, seen } = await show(t, small("front"));
      const { sessionSecret } = await playerIn(page, "front", "live");
      await server.end(signal);
      await playerIn(page, "front", "reconnecting");
      await until(page, () => /does not answer/.test(document.querySelector("[data-page=banner]").textContent));
      await server.restart();
      const restartedAt = performance.now();
      const again = await playerIn(page, "front", "live");
      t.diagnostic(`live again ${Math.round(performance.now() - restartedAt)} ms after the server was`);
      assert.notEqual(again.sessionSecret, sessionSecret);
      await until(page, () => document.querySelector("[data-page=banner]").hidden);
      // Requests that find nobody are all that may be complained of, and are the browser's own words.
      assert.deepEqual([seen.errors.filter((error) => !/ERR_|Failed to load resource/.test(error)), seen.elsewhere], [[], []]);
    });
  }

  test("says that an encoder hangs, and for how long, once only", async (t) => {
    const server = await Server.start('[[camera]]\nname = "front"\npattern = true\n');
    t.after(() => server.stop());
    const prepare = (context) => context.route("**/api/v1/cameras?*", async (route) => {
      const response = await route.fetch();
      const { cameras, ...rest } = await response.json();
      const stalled = { state: "stalled", reason: "no frame was encoded for 12 s", sinceSeconds: 12 };
      await route.fulfill({ response, json: { ...rest, cameras: cameras.map((camera) => ({ ...camera, ...stalled })) } });
    });
    const { page, context } = await open(browser, server, { prepare });
    t.after(() => context.close());
    await playerIn(page, "front", "stalled");
    const text = (part) => page.locator(`[data-part=${part}]`).innerText();
    assert.deepEqual(
      [await text("state"), await text("notice-title"), await text("notice-reason"), await text("notice-since")],
      ["stalled", "No pictures from the encoder", "no frame was encoded for 12 s", ""],
    );
    await until(page, () => /^front is stalled\. no frame/.test(document.querySelector("[data-page=announcer]").textContent));
    assert.equal((await player(page, "front")).sessions, 0, "no session is asked for");
  });

  test("never calls a picture live that stands still", async (t) => {
    const { page, server } = await show(t, small("front"));
    const { sessionSecret } = await playerIn(page, "front", "live");
    server.halt();
    const stale = await playerIn(page, "front", "reconnecting");
    assert.match(stale.reason, /No picture|No pictures|does not answer|interrupted/);
    // The tile follows the player a few times a second.
    await page.locator(".notice").waitFor({ state: "visible" });
    await until(page, () => getComputedStyle(document.querySelector("video")).filter.includes("grayscale"));
    server.goOn();
    await playerIn(page, "front", "live");
    await page.locator(".notice").waitFor({ state: "hidden" });
    assert.ok(sessionSecret);
  });

  test("asks for the token, keeps it for the tab, and for no other", async (t) => {
    const toml = `[http]\ntoken_file = "token"\n${small("front")}`;
    const { page, server, context, seen } = await show(t, toml, { files: { token: "right-token\n" } });
    const field = page.getByLabel("Token", { exact: true });
    await field.waitFor();
    assert.equal(await field.getAttribute("type"), "password");
    assert.deepEqual(await page.evaluate(() => window.lenscast.players()), []);

    await field.fill("wrong");
    await page.getByRole("button", { name: "Continue" }).click();
    await page.getByText("This token is not right.").waitFor();
    await page.keyboard.press("Escape");
    assert.ok(await field.isVisible(), "there is nothing behind it to go back to");
    await field.fill("right-token");
    await page.keyboard.press("Enter");
    await playerIn(page, "front", "live");
    assert.equal(await field.isVisible(), false);
    assert.equal(await page.evaluate(() => document.cookie + JSON.stringify(localStorage)), "{}");

    await page.reload();
    await playerIn(page, "front", "live");
    const other = await openTab(context, server);
    await other.page.getByLabel("Token", { exact: true }).waitFor();
    // The sessions were taken leave of with the token as well: that of the page before it was loaded again is gone.
    const { viewers } = (await server.api("cameras", { Authorization: "Bearer right-token" })).cameras[0];
    assert.ok(viewers.length <= 2);
    const unexpected = seen.errors.filter((error) => !/status of 401/.test(error));
    assert.deepEqual([unexpected, seen.elsewhere], [[], []]);
  });

  test("takes leave of the server when it is left", async (t) => {
    const { page, server } = await show(t, small("front"));
    for (const leave of [() => page.goto("about:blank"), () => page.close()]) {
      await page.goto(server.url);
      await playerIn(page, "front", "live");
      await server.cameraThat("front", ({ viewerCount }) => viewerCount === 1);
      await leave();
      await server.cameraThat("front", ({ viewerCount, stats }) => viewerCount === 0 && !stats.active);
    }
  });

  test("pauses while it is put away, and plays when it is shown again", async (t) => {
    const { page, server } = await show(t, small("front"));
    const { sessionSecret } = await playerIn(page, "front", "live");
    await page.evaluate(() => window.dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true })));
    await playerIn(page, "front", "paused");
    await server.cameraThat("front", ({ viewerCount }) => viewerCount === 0);
    await page.evaluate(() => window.dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true })));
    const again = await playerIn(page, "front", "live");
    assert.notEqual(again.sessionSecret, sessionSecret);
  });

  test("plays only what can be seen", async (t) => {
    const names = Array.from({ length: 10 }, (_, index) => `camera-${index}`);
    const phone = { viewport: { width: 390, height: 700 }, hasTouch: true, isMobile: true };
    const { page } = await show(t, names.map((name) => small(name, "max_kbps = 100")).join(""), phone);
    await playerIn(page, "camera-0", "live");
    const first = await page.evaluate(() => window.lenscast.players().map(({ state }) => state));
    assert.ok(first.slice(4).every((state) => state === "paused"), first.join());
    await page.locator('[data-camera="camera-9"]').scrollIntoViewIfNeeded();
    await playerIn(page, "camera-9", "live");
    await playerIn(page, "camera-0", "paused");
    await page.locator('[data-camera="camera-0"]').scrollIntoViewIfNeeded();
    await playerIn(page, "camera-0", "live");
  });

  test("lays itself out once for each size of the window, not with every frame", async (t) => {
    const { page } = await show(t, small("front"));
    await playerIn(page, "front", "live");
    for (const [width, height] of [[1_280, 720], [1_366, 768], [1_440, 900], [1_600, 900], [1_920, 1_080], [1_024, 768]]) {
      await page.setViewportSize({ width, height });
      const widths = await page.evaluate(() => new Promise((resolve) => {
        const [video, widths] = [document.querySelector("video"), []];
        const look = () => {
          widths.push(video.getBoundingClientRect().width);
          if (widths.length < 45) requestAnimationFrame(look);
          // The first few belong to the window's own change.
          else resolve(widths.slice(15));
        };
        requestAnimationFrame(look);
      }));
      assert.equal(new Set(widths).size, 1, `${width}×${height}: ${[...new Set(widths)]}`);
    }
  });

  for (const [what, width, height] of [["a phone upright", 390, 844], ["a phone on its side", 844, 390], ["a small phone", 320, 568]]) {
    test(`fits ${what}`, async (t) => {
      const long = `${"a".repeat(64)}`;
      const phone = { viewport: { width, height }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };
      const { page } = await show(t, small("front") + small(long) + gate, phone);
      const fits = async (when) => {
        const wide = await page.evaluate(() => {
          const tooWide = [...document.querySelectorAll("body *")].filter((element) => element.getBoundingClientRect().right > innerWidth + 0.5);
          const shown = tooWide.filter((element) => !element.closest(".unseen") && element.closest("[data-page]"));
          return { width: document.documentElement.scrollWidth, inner: innerWidth, elements: shown.map(({ className, tagName }) => `${tagName}.${className}`) };
        });
        assert.ok(wide.width <= width && wide.inner === width, `${when}: ${JSON.stringify(wide)}`);
      };
      await playerIn(page, "front", "live");
      await fits("all cameras");
      await page.getByRole("button", { name: "Enlarge front" }).tap();
      await until(page, () => document.querySelector(".tile.large"));
      await fits("one large");
      // Buttons are large enough for a finger (WCAG 2.2, 2.5.8 asks for 24 px, Apple's and Google's guides for 44).
      const buttons = await page.getByRole("button").evaluateAll((buttons) =>
        buttons.filter((button) => button.checkVisibility()).map((button) => [button.clientWidth, button.clientHeight]));
      assert.ok(buttons.every(([width, height]) => Math.min(width, height) >= 44), JSON.stringify(buttons));
      await page.getByRole("button", { name: "Back to all cameras" }).tap();
      await until(page, () => !document.querySelector(".tile.large"));
    });
  }

  test("says so when the browser does not know the codec", async (t) => {
    const server = await Server.start(small("front", 'codec = "h264"') + small("rear"));
    t.after(() => server.stop());
    const prepare = async (context) => {
      await attachProbe(context);
      // As browsers without H.264 have it.
      await context.addInitScript(() => {
        const createOffer = RTCPeerConnection.prototype.createOffer;
        RTCPeerConnection.prototype.createOffer = async function (...args) {
          for (const transceiver of this.getTransceivers()) {
            const { codecs } = RTCRtpReceiver.getCapabilities("video");
            transceiver.setCodecPreferences(codecs.filter(({ mimeType }) => mimeType !== "video/H264"));
          }
          return createOffer.apply(this, args);
        };
      });
    };
    const { page, context } = await open(browser, server, { prepare });
    t.after(() => context.close());
    const { reason } = await playerIn(page, "front", "failed");
    assert.match(reason, /H264/);
    await playerIn(page, "rear", "live");
    const offers = async () => (await requests(page)).filter(({ method, pathname }) => method === "POST" && pathname === "/whep/front").length;
    const before = await offers();
    await page.getByRole("button", { name: "Try again" }).click();
    await until(page, (before) => window.probe.requests.filter(({ method, pathname }) => method === "POST" && pathname === "/whep/front").length > before, before);
  });

  test("says so when the browser has no WebRTC", async (t) => {
    const server = await Server.start(small("front"));
    t.after(() => server.stop());
    const prepare = (context) => context.addInitScript(() => delete window.RTCPeerConnection);
    const { page, context } = await open(browser, server, { prepare });
    t.after(() => context.close());
    await page.getByRole("alert").getByText("WebRTC is missing").waitFor();
  });

  test("waits as long as a full server asks, says so, and plays when there is room", async (t) => {
    const { page, server, context } = await show(t, `[webrtc]\nmax_viewers = 1\n${small("front")}`);
    await playerIn(page, "front", "live");
    const { page: second } = await openTab(context, server);
    await until(second, () => window.lenscast.players()[0]?.reason);
    const { state, reason } = await player(second, "front");
    assert.equal(state, "connecting");
    assert.match(reason, /in use/);
    await page.close();
    await playerIn(second, "front", "live", 20_000);
    const offers = (await requests(second)).filter(({ method }) => method === "POST").map(({ at }) => at);
    const waits = offers.slice(1).map((at, index) => at - offers[index]);
    assert.ok(waits.length > 0 && waits.every((wait) => wait >= 5_000), `Retry-After is 5 s, waited ${waits} ms`);
  });

  test("follows the cameras that a new configuration brings and takes away", async (t) => {
    const { page, server, seen } = await show(t, small("front") + small("rear"));
    await playerIn(page, "rear", "live");
    const { sessionSecret } = await playerIn(page, "front", "live");
    await server.put("lenscast.toml", small("side") + small("front"));
    server.reload();
    await playerIn(page, "side", "live");
    assert.deepEqual(await page.locator(".tile h2").allTextContents(), ["side", "front"]);
    assert.equal((await playerIn(page, "front", "live")).sessionSecret, sessionSecret, "what stays plays on");
    // Until it has learned of it, the page asks for what is gone.
    assert.deepEqual([seen.errors.filter((error) => !/status of 404/.test(error)), seen.elsewhere], [[], []]);
  });
});
