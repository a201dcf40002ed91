// The WHEP client by itself, as a page of somebody else's would use it: from another origin, with a video element of its own.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";

import { launch, until } from "./browser.mjs";
import { Server } from "./server.mjs";

const TOML = `
[http]
token_file = "token"

[webrtc]
ice_server = [
  { url = "stun:127.0.0.1:9" },
  { url = "turn:127.0.0.1:9?transport=udp", username = "viewer", credential_file = "credential" },
]

[[camera]]
name = "front"
pattern = true
width = 320
height = 240
fps = 15

[[camera]]
name = "gone"
file = "gone.y4m"
`;
const TOKEN = "a-token";

describe("the WHEP client", () => {
  let browser, server, elsewhere, page;
  before(async () => {
    server = await Server.start(TOML, { token: TOKEN, credential: 'pass"\\word' });
    elsewhere = createServer((request, response) => response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><video muted></video>"));
    elsewhere.listen(0, "127.0.0.1");
    await once(elsewhere, "listening");
    browser = await launch();
    page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${elsewhere.address().port}/`);
    await page.evaluate(async (url) => {
      window.whep = await import(`${url}whep.js`);
    }, server.url);
  });
  after(async () => {
    await browser.close();
    elsewhere.close();
    await server.stop();
  });

  // Opens a session in the page; resolves with what became of it.
  const attempt = (camera, token) => page.evaluate(async ([endpoint, token]) => {
    try {
      const session = await window.whep.WhepSession.open(endpoint, { token });
      session.close();
      return { opened: true };
    } catch (problem) {
      const { name, status, message, retryAfterMs, isPermanent } = problem;
      return { name, status, message, retryAfterMs, isPermanent };
    }
  }, [new URL(`whep/${camera}`, server.url).href, token]);

  const viewers = async (isWanted) => {
    for (const deadline = Date.now() + 10_000; ; ) {
      const { viewers } = await server.api("cameras/front", { Authorization: `Bearer ${TOKEN}` });
      if (isWanted(viewers.length)) return viewers;
      assert.ok(Date.now() < deadline, `${viewers.length} viewers`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };

  test("plays, knows its address and its ICE servers, and takes leave", async () => {
    const opened = await page.evaluate(async ([endpoint, token]) => {
      const session = (window.session = await window.whep.WhepSession.open(endpoint, { token }));
      const video = document.querySelector("video");
      video.srcObject = session.stream;
      await video.play();
      return { location: session.location.href, secret: session.secret, iceServers: session.connection.getConfiguration().iceServers };
    }, [new URL("whep/front", server.url).href, TOKEN]);
    await until(page, () => document.querySelector("video").getVideoPlaybackQuality().totalVideoFrames > 5);
    assert.equal(opened.location, new URL(`whep/front/${opened.secret}`, server.url).href);
    assert.match(opened.secret, /^[0-9a-f]{32}$/);
    const [stun, turn] = opened.iceServers;
    assert.deepEqual([stun.urls, turn.urls].flat(), ["stun:127.0.0.1:9", "turn:127.0.0.1:9?transport=udp"]);
    assert.deepEqual([turn.username, turn.credential], ["viewer", 'pass"\\word']);
    await viewers((count) => count === 1);
    const ended = await page.evaluate(() => {
      window.session.close();
      return window.session.ended;
    });
    assert.equal(ended, null, "it was we who ended it");
    await viewers((count) => count === 0);
  });

  test("says what is wrong", async () => {
    const wrongToken = await attempt("front", "wrong");
    assert.deepEqual([wrongToken.name, wrongToken.status, wrongToken.isPermanent], ["Problem", 401, false]);
    assert.match(wrongToken.message, /token/);
    const unknown = await attempt("nobody", TOKEN);
    assert.equal(unknown.status, 404);
    assert.match(unknown.message, /nobody/);
    const notLive = await attempt("gone", TOKEN);
    assert.deepEqual([notLive.status, notLive.retryAfterMs, notLive.isPermanent], [409, 2_000, false]);
    assert.match(notLive.message, /gone.*not live/);
    const nobody = await page.evaluate(async () => {
      const refused = await window.whep.WhepSession.open("http://127.0.0.1:9/whep/x").catch((problem) => problem);
      return { status: refused.status, message: refused.message };
    });
    assert.deepEqual(nobody, { status: 0, message: "The server does not answer." });
  });

  test("leaves nothing behind when it is abandoned", async () => {
    const reasons = await page.evaluate(async ([endpoint, token]) => {
      const reasons = [];
      // At once, and at the moment when the answer has come.
      const early = new AbortController();
      early.abort("early");
      reasons.push(await window.whep.WhepSession.open(endpoint, { token, signal: early.signal }).catch((reason) => reason));
      const late = new AbortController();
      const { setRemoteDescription } = RTCPeerConnection.prototype;
      RTCPeerConnection.prototype.setRemoteDescription = function (...args) {
        late.abort("late");
        return setRemoteDescription.apply(this, args);
      };
      reasons.push(await window.whep.WhepSession.open(endpoint, { token, signal: late.signal }).catch((reason) => reason));
      RTCPeerConnection.prototype.setRemoteDescription = setRemoteDescription;
      return reasons;
    }, [new URL("whep/front", server.url).href, TOKEN]);
    assert.deepEqual(reasons, ["early", "late"]);
    await viewers((count) => count === 0);
  });

  test("tells that the server ended the session", async () => {
    const ended = await page.evaluate(async ([endpoint, token]) => {
      const session = await window.whep.WhepSession.open(endpoint, { token });
      const connected = new Promise((resolve) => {
        const look = () => session.connection.connectionState === "connected" && resolve();
        session.connection.addEventListener("connectionstatechange", look);
        look();
      });
      await connected;
      const answer = await fetch(session.location, { method: "DELETE", headers: { Authorization: `Bearer ${token}` } });
      const { message } = await session.ended;
      session.close();
      return { status: answer.status, message };
    }, [new URL("whep/front", server.url).href, TOKEN]);
    assert.equal(ended.status, 200);
    assert.equal(ended.message, "The server ended the session.");
  });
});
