// Chromium behind a network that loses 5 % of all datagrams, each way: the video plays on through retransmissions, and no
// picture stands still for more than half a second.

import assert from "node:assert/strict";
import dgram from "node:dgram";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";

import { launch } from "./browser.mjs";
import { CpuWatch, judge } from "./cpu.mjs";
import { Server } from "./server.mjs";

const LOSS = 0.05;
const SECONDS = 20;
const LONGEST_FREEZE_MS = 500;
const FPS = 30;
// Of the frames sent, how many must be seen: the rest are those that come so late that the browser passes them over.
const ENOUGH = 0.8;

const camera = (codec) => `
[[camera]]
name = "${codec}"
pattern = true
width = 640
height = 480
fps = ${FPS}
codec = "${codec}"
max_kbps = 1500
`;

describe("behind a network that loses 5 %", () => {
  let browser;
  before(async () => {
    browser = await launch();
  });
  after(() => browser.close());

  for (const [codec, seed] of [["vp8", 1], ["h264", 2]]) {
    test(`${codec} plays on`, async (t) => {
      const server = await Server.start(camera(codec));
      t.after(() => server.stop());
      await server.cameraThat(codec, ({ state }) => state === "live");
      const context = await browser.newContext();
      t.after(() => context.close());
      const page = await context.newPage();
      let relay;
      t.after(() => relay?.close());
      // The answer leads to the server's own port; let it lead to the network between.
      await page.route("**/whep/*", async (route) => {
        const reply = await route.fetch();
        const answer = await reply.text();
        const [candidate, port] = answer.match(/^a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1 (\d+) typ host/m);
        relay = await startRelay(Number(port), seed);
        await route.fulfill({ response: reply, body: answer.replace(candidate, candidate.replace(` ${port} `, ` ${relay.port} `)) });
      });
      // Any address of the server will do: this is not about its page.
      await page.goto(`${server.url}livez`);
      await page.evaluate(play, codec);

      const cpu = new CpuWatch();
      await page.evaluate(figures);
      const { stats: from } = await server.camera(codec);
      relay.lossy.share = LOSS;
      await server.cameraThat(codec, ({ stats }) => stats.framesEncoded >= from.framesEncoded + SECONDS * FPS, SECONDS * 3_000);
      const { pictures, longestGap, inbound } = await page.evaluate(figures);
      relay.lossy.share = 0;

      const jitterBuffer = (1_000 * inbound.jitterBufferDelay) / inbound.jitterBufferEmittedCount;
      t.diagnostic(
        `${codec}: ${relay.lossy.lost} of ${relay.lossy.lost + relay.lossy.passed} datagrams lost; ${pictures} pictures, the longest stood for ` +
          `${Math.round(longestGap)} ms; freezes ${inbound.freezeCount}, ${inbound.retransmittedPacketsReceived} packets came by RTX, ` +
          `${inbound.packetsLost} never, ${inbound.nackCount} NACKs, ${inbound.pliCount} PLIs, jitter buffer ${Math.round(jitterBuffer)} ms`,
      );
      assert.ok(relay.lossy.lost > 50, "the network lost too little to show anything");
      assert.ok(inbound.retransmittedPacketsReceived > 0, "nothing came by RTX");
      judge(t, cpu, longestGap <= LONGEST_FREEZE_MS, `a picture stood still for ${Math.round(longestGap)} ms`);
      judge(t, cpu, pictures >= SECONDS * FPS * ENOUGH, `only ${pictures} pictures of ${SECONDS * FPS} frames`);
    });
  }
});

// Numbers from 0 to 1, the same for the same seed (mulberry32).
function randomFrom(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

// A network between one viewer's sockets and the server's UDP port that loses what `lossy.share` says.
async function startRelay(serverPort, seed) {
  const front = dgram.createSocket({ type: "udp4", recvBufferSize: 1 << 21 });
  const backs = new Map();
  const lossy = { share: 0, passed: 0, lost: 0 };
  const [there, back] = [randomFrom(seed), randomFrom(seed + 1)];
  const passes = (random) => {
    const lost = random() < lossy.share;
    lossy[lost ? "lost" : "passed"] += 1;
    return !lost;
  };
  front.on("message", (datagram, viewer) => {
    let socket = backs.get(viewer.port);
    if (!socket) {
      socket = dgram.createSocket({ type: "udp4", recvBufferSize: 1 << 21 });
      socket.on("message", (answer) => { if (passes(back)) front.send(answer, viewer.port, viewer.address); });
      backs.set(viewer.port, socket);
    }
    if (passes(there)) socket.send(datagram, serverPort, "127.0.0.1");
  });
  front.bind(0, "127.0.0.1");
  await once(front, "listening");
  const close = () => [front, ...backs.values()].forEach((socket) => socket.close());
  return { port: front.address().port, lossy, close };
}

// In the page: plays `camera` and notes when each picture was presented. Resolves with the first.
async function play(camera) {
  const peer = new RTCPeerConnection();
  peer.addTransceiver("video", { direction: "recvonly" });
  const video = document.body.appendChild(document.createElement("video"));
  video.muted = true;
  video.autoplay = true;
  const presented = [];
  const first = new Promise((resolve) => {
    const note = (now) => {
      presented.push(now);
      resolve();
      video.requestVideoFrameCallback(note);
    };
    video.requestVideoFrameCallback(note);
  });
  peer.ontrack = ({ track }) => { video.srcObject = new MediaStream([track]); };
  await peer.setLocalDescription(await peer.createOffer());
  const reply = await fetch(`/whep/${camera}`, {
    method: "POST",
    headers: { "Content-Type": "application/sdp" },
    body: peer.localDescription.sdp,
  });
  if (reply.status !== 201) throw new Error(`${reply.status}: ${await reply.text()}`);
  await peer.setRemoteDescription({ type: "answer", sdp: await reply.text() });
  await first;
  globalThis.playing = { peer, presented };
}

// In the page: what has been presented since the last call, and what the receiver counts.
async function figures() {
  const { peer, presented } = globalThis.playing;
  const inbound = [...(await peer.getStats()).values()].find((stats) => stats.type === "inbound-rtp");
  const times = presented.splice(0);
  // The picture that stands now has stood since the last callback.
  times.push(performance.now());
  const gaps = times.slice(1).map((time, index) => time - times[index]);
  return { pictures: times.length - 1, longestGap: Math.max(...gaps), inbound };
}
