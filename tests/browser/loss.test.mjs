// Chromium behind a network that loses 5 % of all datagrams, each way: the video plays on through retransmissions, and no
// picture stands still for more than half a second.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const BINARY = path.resolve(ROOT, process.env.LENSCAST_BIN ?? 'target/debug/lenscast');
const LOSS = 0.05;
const SECONDS = 20;
const LONGEST_FREEZE_MS = 500;
const FPS = 30;
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--autoplay-policy=no-user-gesture-required',
  '--allow-loopback-in-peer-connection',
];

const CONFIG = ['vp8', 'h264'].map((codec) => `[[camera]]
name = "${codec}"
pattern = true
width = 640
height = 480
fps = ${FPS}
codec = "${codec}"
bitrate_kbps = 1500
`).join('');

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
function randomFrom(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A network between one viewer's sockets and the server's UDP port that loses what `lossy.share` says. */
async function startRelay(serverPort, seed) {
  const front = dgram.createSocket({ type: 'udp4', recvBufferSize: 1 << 21 });
  const backs = new Map();
  const lossy = { share: 0, passed: 0, lost: 0 };
  const [there, back] = [randomFrom(seed), randomFrom(seed + 1)];
  const passes = (random) => {
    const lost = random() < lossy.share;
    lossy[lost ? 'lost' : 'passed'] += 1;
    return !lost;
  };
  front.on('message', (datagram, viewer) => {
    let socket = backs.get(viewer.port);
    if (!socket) {
      socket = dgram.createSocket({ type: 'udp4', recvBufferSize: 1 << 21 });
      socket.on('message', (answer) => { if (passes(back)) front.send(answer, viewer.port, viewer.address); });
      backs.set(viewer.port, socket);
    }
    if (passes(there)) socket.send(datagram, serverPort, '127.0.0.1');
  });
  front.bind(0, '127.0.0.1');
  await once(front, 'listening');
  const close = () => [front, ...backs.values()].forEach((socket) => socket.close());
  return { port: front.address().port, lossy, close };
}

async function startServer() {
  const directory = await mkdtemp(path.join(tmpdir(), 'lenscast-loss-'));
  await writeFile(path.join(directory, 'lenscast.toml'), CONFIG);
  const child = spawn(
    BINARY,
    ['-c', 'lenscast.toml', '--http-listen', '127.0.0.1:0', '--webrtc-listen', '127.0.0.1:0'],
    { cwd: directory, stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const ended = once(child, 'exit');
  const address = (async () => {
    for await (const line of readline.createInterface({ input: child.stdout })) {
      const found = line.match(/^lenscast: watch at (\S+)/);
      if (found) return found[1];
    }
    throw new Error('the server ended before it said where it listens');
  })();
  const stop = async () => {
    child.kill('SIGKILL');
    await ended;
    await rm(directory, { recursive: true, force: true });
  };
  return { base: await address, stop };
}

async function ready(base) {
  for (const deadline = Date.now() + 20_000; Date.now() < deadline;) {
    const reply = await fetch(`${base}readyz`);
    if ((await reply.json()).status === 'ready') return;
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
  throw new Error('the cameras are not live');
}

/** In the page: plays `camera` and notes when each picture was presented. Resolves with the first. */
async function play(camera) {
  const peer = new RTCPeerConnection();
  peer.addTransceiver('video', { direction: 'recvonly' });
  const video = document.body.appendChild(document.createElement('video'));
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
    method: 'POST',
    headers: { 'Content-Type': 'application/sdp' },
    body: peer.localDescription.sdp,
  });
  if (reply.status !== 201) throw new Error(`${reply.status}: ${await reply.text()}`);
  await peer.setRemoteDescription({ type: 'answer', sdp: await reply.text() });
  await first;
  globalThis.playing = { peer, presented };
}

/** In the page: what has been presented since the last call, and what the receiver counts. */
async function figures() {
  const { peer, presented } = globalThis.playing;
  const inbound = [...(await peer.getStats()).values()].find((stats) => stats.type === 'inbound-rtp');
  const times = presented.splice(0);
  // The picture that stands now has stood since the last callback.
  times.push(performance.now());
  const gaps = times.slice(1).map((time, index) => time - times[index]);
  return { pictures: times.length - 1, longestGap: Math.max(...gaps), inbound };
}

for (const [camera, seed] of [['vp8', 1], ['h264', 2]]) {
  test(`${camera} plays on through 5 % loss`, { timeout: 90_000 }, async (context) => {
    const server = await startServer();
    context.after(server.stop);
    await ready(server.base);
    const profile = await mkdtemp(path.join(tmpdir(), 'lenscast-chromium-'));
    const browser = await chromium.launchPersistentContext(profile, {
      executablePath: '/usr/bin/chromium', headless: true, args: FLAGS,
    });
    context.after(async () => {
      await browser.close();
      await rm(profile, { recursive: true, force: true });
    });

    let relay;
    context.after(() => relay?.close());
    const page = await browser.newPage();
    // The answer leads to the server's own port; let it lead to the network between.
    await page.route('**/whep/*', async (route) => {
      const reply = await route.fetch();
      const answer = await reply.text();
      const candidate = answer.match(/^a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1 (\d+) typ host/m);
      relay = await startRelay(Number(candidate[1]), seed);
      await route.fulfill({
        response: reply,
        body: answer.replace(candidate[0], candidate[0].replace(` ${candidate[1]} `, ` ${relay.port} `)),
      });
    });
    // Any address of the server will do: this is not about its page.
    await page.goto(`${server.base}livez`);
    await page.evaluate(play, camera);

    await page.evaluate(figures);
    relay.lossy.share = LOSS;
    await new Promise((resolve) => { setTimeout(resolve, SECONDS * 1000); });
    const { pictures, longestGap, inbound } = await page.evaluate(figures);
    relay.lossy.share = 0;

    const report = {
      camera,
      datagrams: relay.lossy,
      pictures,
      longestGapMs: Math.round(longestGap),
      framesDecoded: inbound.framesDecoded,
      framesDropped: inbound.framesDropped,
      keyFramesDecoded: inbound.keyFramesDecoded,
      freezeCount: inbound.freezeCount,
      totalFreezesDuration: inbound.totalFreezesDuration,
      packetsReceived: inbound.packetsReceived,
      packetsLost: inbound.packetsLost,
      retransmittedPacketsReceived: inbound.retransmittedPacketsReceived,
      nackCount: inbound.nackCount,
      pliCount: inbound.pliCount,
      jitterBufferMsPerFrame: Math.round((1000 * inbound.jitterBufferDelay) / inbound.jitterBufferEmittedCount),
    };
    console.log(JSON.stringify(report));
    assert.ok(relay.lossy.lost > 50, 'the network lost too little to show anything');
    assert.ok(inbound.retransmittedPacketsReceived > 0, 'nothing came by RTX');
    assert.ok(longestGap <= LONGEST_FREEZE_MS, `a picture stood still for ${Math.round(longestGap)} ms`);
    assert.ok(pictures >= SECONDS * FPS * 0.8, `only ${pictures} pictures in ${SECONDS} s`);
  });
}
