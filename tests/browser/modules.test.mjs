// The page's modules by themselves: what needs no browser.

import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import path from "node:path";
import { describe, test } from "node:test";

import { Allocation, PERIOD_MS, READ_CLOSELY_MS, READ_MS } from "../../web/allocation.js";
import { demand, noteOn, outcome, shares, totalScale, trouble } from "../../web/allocation_panel.js";
import { Backoff, MAX_MS, MIN_MS } from "../../web/backoff.js";
import { CaptureClock, ServerClock } from "../../web/clock.js";
import * as connections from "../../web/connections.js";
import { EventStream } from "../../web/event_stream.js";
import * as format from "../../web/format.js";
import { LatencyMeter, quantile } from "../../web/latency.js";
import { MIN_TILE, layOut } from "../../web/layout.js";
import { iceServers, parseLinks } from "../../web/link_header.js";
import { Problem } from "../../web/problem.js";
import { Reception } from "../../web/reception.js";
import { SharedSessions } from "../../web/shared_session.js";
import { delay, event } from "../../web/wait.js";
import { LAST_POSITION, positionOf, weightAt } from "../../web/weight.js";

const WEB = path.resolve(import.meta.dirname, "../../web");

// Numbers from 0 to 1 that are the same in every run (mulberry32).
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), seed | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

describe("viewers' connections", () => {
  const connection = {
    availableOutgoingBitrate: 1_200_000,
    confirmed: true,
    sendBitrate: 950_000,
    currentRoundTripTime: 0.042,
    fractionLost: 0,
    queueDelay: 0.003,
    pacerQueueDelay: 0,
    cameras: [
      { name: "front", layer: 1, paused: false, held: false, targetBitrate: 700_000 },
      { name: "rear", layer: null, paused: false, held: true, targetBitrate: 0 },
      { name: "desk", layer: null, paused: true, held: false, targetBitrate: 0 },
    ],
  };

  test("each is told in words", () => {
    const { rates, reason, cameras } = connections.linesOn(connection);
    assert.equal(rates, "950 kb/s of 1.2 Mb/s");
    assert.equal(reason, "round trip 42 ms, loss 0 %, queues 3.0 ms there, 0.0 ms here");
    assert.equal(cameras, "front 700 kb/s, layer 1; rear held, too little for it; desk paused");
    const starting = connections.linesOn({ ...connection, confirmed: false, currentRoundTripTime: null });
    assert.match(starting.reason, /^starting, round trip –,/);
  });

  test("a note says how many there are, and what all may take", () => {
    const note = (viewerCount, shown, maxUplinkKbps = null) => connections.noteOn({ viewerCount, viewers: Array(shown).fill({}), maxUplinkKbps });
    assert.equal(note(0, 0), "Nobody watches.");
    assert.equal(note(null, 0), "Not known.");
    assert.equal(note(2, 2), "");
    assert.equal(note(2, 0), "What they carry is not known yet.");
    assert.equal(note(1_200, 8, 20_000), "The 8 thinnest of 1,200. All together may take 20.0 Mb/s.");
  });
});

describe("the page's files", async () => {
  const names = await readdir(WEB);

  test("modules import each other and nothing from elsewhere", async () => {
    for (const name of names.filter((name) => name.endsWith(".js"))) {
      const source = await readFile(path.join(WEB, name), "utf8");
      for (const [, from] of source.matchAll(/^(?:import|export)\b[^;]*?from\s+"([^"]+)"/gms)) {
        assert.match(from, /^\.\/[a-z_]+\.js$/, `${name} imports ${from}`);
        assert.ok(names.includes(from.slice(2)), `${name} imports ${from}, which is not there`);
      }
    }
  });

  test("what the page refers to is there", async () => {
    const html = await readFile(path.join(WEB, "index.html"), "utf8");
    const references = [...html.matchAll(/\b(?:src|href)="([^"]+)"/g)].map(([, reference]) => reference);
    assert.ok(references.length >= 4, "the icon twice, the style, the module");
    for (const reference of references) assert.ok(names.includes(reference), `${reference} is not there`);
  });
});

describe("Link headers", () => {
  test("ICE servers are found among other links", () => {
    const links = parseLinks(
      '<stun:stun.example.org>; rel="ice-server", </whep/a/b/events>; rel="urn:ietf:params:whep:ext:core:server-sent-events"; ' +
        'events="active,inactive", <turn:turn.example.org:3478?transport=udp>; rel="ice-server"; username="a,b;c"; ' +
        'credential="\\"quoted\\" \\\\ secret"; credential-type="password"',
    );
    assert.equal(links.length, 3);
    assert.deepEqual(iceServers(links), [
      { urls: "stun:stun.example.org" },
      { urls: "turn:turn.example.org:3478?transport=udp", username: "a,b;c", credential: '"quoted" \\ secret' },
    ]);
  });

  test("no header, no links", () => {
    assert.deepEqual(parseLinks(null), []);
    assert.deepEqual(parseLinks(""), []);
  });

  test("what is malformed is left out, and what follows is read", () => {
    assert.deepEqual(parseLinks('nonsense "a,b", <x>; rel=next').map(({ target }) => target), ["x"]);
    assert.deepEqual(parseLinks("<a>; rel=ice-server; rel=other")[0].parameters.rel, "ice-server");
  });

  test("garbage ends", () => {
    const next = random(1);
    const alphabet = '<>;,="\\ arel-';
    for (let round = 0; round < 3_000; round++) {
      const length = Math.floor(next() * 40);
      const text = Array.from({ length }, () => alphabet[Math.floor(next() * alphabet.length)]).join("");
      iceServers(parseLinks(text));
    }
  });
});

describe("problems", () => {
  const answer = (status, body, headers = {}) => new Response(body, { status, statusText: "Some Text", headers });

  test("say what the server says", async () => {
    const body = JSON.stringify({ status: 409, title: "Conflict", detail: 'camera "gate" is not live' });
    const headers = { "content-type": "application/problem+json", "retry-after": "2" };
    const problem = await Problem.of(answer(409, body, headers));
    assert.deepEqual([problem.status, problem.message, problem.retryAfterMs], [409, 'camera "gate" is not live', 2_000]);
    assert.equal(problem.isPermanent, false);
  });

  test("say the status where the server says nothing that can be shown", async () => {
    for (const [body, kind] of [["<html>", "text/html"], ["{", "application/json"], ["{}", "application/json"], ['{"detail":5}', "application/json"]]) {
      const problem = await Problem.of(answer(502, body, { "content-type": kind }));
      assert.deepEqual([problem.message, problem.retryAfterMs], ["The server answers 502 Some Text.", null]);
    }
  });

  test("take a date for Retry-After, and nothing else", async () => {
    const soon = new Date(Date.now() + 60_000).toUTCString();
    const { retryAfterMs } = await Problem.of(answer(503, null, { "retry-after": soon }));
    assert.ok(retryAfterMs > 50_000 && retryAfterMs <= 60_000, `${retryAfterMs}`);
    assert.equal((await Problem.of(answer(503, null, { "retry-after": "soon" }))).retryAfterMs, null);
    const past = await Problem.of(answer(503, null, { "retry-after": "Thu, 01 Jan 1970 00:00:00 GMT" }));
    assert.equal(past.retryAfterMs, 0);
  });

  test("are permanent if the request is wrong, and not if the moment is", () => {
    const permanent = [400, 406, 413, 415, 422].map((status) => new Problem(status, "").isPermanent);
    assert.ok(permanent.every(Boolean));
    const passing = [0, 401, 404, 409, 429, 500, 502, 503].map((status) => new Problem(status, "").isPermanent);
    assert.ok(!passing.some(Boolean));
  });
});

describe("server-sent events", () => {
  const read = (pieces) => {
    const stream = new EventStream();
    return pieces.flatMap((piece) => stream.push(piece));
  };

  test("are read whatever their lines end with, and wherever the text is cut", () => {
    const lines = [": a comment", "event: allocation", 'data: {"version":1}', "", "data", "data:two", "id: 7", "", "event: empty", "", "data: rest"];
    const events = [{ type: "allocation", data: '{"version":1}' }, { type: "message", data: "\ntwo" }];
    for (const end of ["\n", "\r\n", "\r"]) {
      const text = lines.join(end);
      assert.deepEqual(read([text]), events);
      assert.deepEqual(read([...text]), events, JSON.stringify(end));
      for (let cut = 0; cut <= text.length; cut++) assert.deepEqual(read([text.slice(0, cut), text.slice(cut)]), events);
    }
  });
});

describe("weights", () => {
  test("a position of the slider is a weight and comes back from it", () => {
    const weights = Array.from({ length: LAST_POSITION + 1 }, (_, position) => weightAt(position));
    assert.deepEqual([weights[0], weights[1], weights.at(-1), weightAt(positionOf(1))], [0, 0.1, 10, 1]);
    for (const weight of [0.5, 2, 4, 5]) assert.equal(weightAt(positionOf(weight)), weight);
    weights.forEach((weight, position) => {
      assert.equal(positionOf(weight), position);
      assert.ok(position === 0 || weight > weights[position - 1]);
    });
  });

  test("what lies beyond the slider is at its end, and only 0 is off", () => {
    assert.deepEqual([0, 1e-6, 1e6].map(positionOf), [0, 1, LAST_POSITION]);
  });
});

describe("the allocation", () => {
  const view = (version, weights, totalKbps = null) => ({
    version,
    totalKbps,
    cameras: Object.entries(weights).map(([name, weight]) => ({ name, weight, minKbps: 30, maxKbps: 2_000 })),
  });
  const weightsOf = ({ view }) => Object.fromEntries(view.cameras.map(({ name, weight }) => [name, weight]));
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const turns = async () => {
    for (let step = 0; step < 5; step++) await turn();
  };

  // A server whose events are pushed by the test, and whose answers to changes are the test's.
  class FakeApi {
    changes = [];
    answers = [];
    // What it answers who asks, or throws.
    held = null;
    readings = 0;
    // Streams that there were, and what ends or feeds the one there is.
    streams = 0;
    #tell = null;

    async changeAllocation(changes) {
      this.changes.push(changes);
      return this.answers.shift()();
    }

    async allocation() {
      this.readings += 1;
      if (this.held instanceof Problem) throw this.held;
      return this.held;
    }

    async *allocationEvents(signal) {
      this.streams += 1;
      try {
        for (;;) {
          const event = await new Promise((resolve, reject) => {
            this.#tell = { resolve, reject };
            signal.addEventListener("abort", () => reject(Problem.unreachable(signal.reason)));
          });
          yield event;
        }
      } finally {
        this.#tell = null;
      }
    }

    get isFollowed() {
      return this.#tell !== null;
    }

    async tell(view) {
      this.#tell.resolve({ type: "allocation", data: JSON.stringify(view) });
      await turns();
    }

    async refuse(problem) {
      this.#tell.reject(problem);
      await turns();
    }
  }

  // The browser's locks, with one window that waits for them.
  const freeLocks = { request: (name, { signal }, hold) => (signal.aborted ? Promise.reject(signal.reason) : hold()) };
  const takenLocks = { request: (name, { signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))) };

  async function begun(t, locks, held) {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const api = new FakeApi();
    api.held = held;
    const allocation = new Allocation(api, locks);
    allocation.run();
    await turns();
    return { api, allocation };
  }

  async function followed(t) {
    const { api, allocation } = await begun(t, freeLocks, view(1, { a: 1, b: 1 }));
    allocation.closely = true;
    await turns();
    await api.tell(view(1, { a: 1, b: 1 }));
    return { api, allocation };
  }

  test("is read with or without a stream, which only who looks closely holds", async (t) => {
    const { api, allocation } = await begun(t, freeLocks, view(1, { a: 1 }));
    assert.deepEqual(weightsOf(allocation), { a: 1 });
    const step = async (ms) => {
      const { readings } = api;
      t.mock.timers.tick(ms);
      await turns();
      return api.readings - readings;
    };
    assert.deepEqual([await step(READ_MS - 1), await step(1), api.streams], [0, 1, 0]);
    allocation.closely = true;
    await turns();
    assert.deepEqual([api.isFollowed, await step(READ_CLOSELY_MS)], [true, 1]);
    allocation.hidden = true;
    await turns();
    assert.deepEqual([api.isFollowed, await step(READ_CLOSELY_MS), await step(READ_MS)], [false, 0, 1]);
    allocation.hidden = false;
    await turns();
    assert.equal(api.isFollowed, true);
    allocation.paused = true;
    await turns();
    assert.deepEqual([api.isFollowed, await step(100 * READ_MS)], [false, 0]);
    allocation.paused = false;
    await turns();
    assert.equal(api.isFollowed, true);
    allocation.closely = false;
    await turns();
    assert.equal(api.isFollowed, false);
  });

  for (const [what, locks] of [["another window follows it", takenLocks], ["the browser has no locks", undefined]]) {
    test(`is read and not followed where ${what}`, async (t) => {
      const { api, allocation } = await begun(t, locks, view(1, { a: 1 }));
      allocation.closely = true;
      await turns();
      api.held = view(2, { a: 2 });
      t.mock.timers.tick(READ_CLOSELY_MS);
      await turns();
      assert.deepEqual([api.streams, weightsOf(allocation)], [0, { a: 2 }]);
      allocation.closely = false;
      await turns();
    });
  }

  test("a stream that fails is tried again, later and later, while reading goes on", async (t) => {
    const { api, allocation } = await followed(t);
    let last = api.streams;
    for (let time = 0; time < 5; time++, last = api.streams) {
      await api.refuse(new Problem(503, "there are too many streams"));
      t.mock.timers.tick(MIN_MS - 1);
      await turns();
      assert.equal(api.streams, last);
      api.held = view(10 + time, { a: 10 + time, b: 1 });
      t.mock.timers.tick(MAX_MS);
      await turns();
      assert.deepEqual([api.streams, weightsOf(allocation).a, allocation.lost], [last + 1, 10 + time, null]);
    }
  });

  test("says why it is not known, until it is", async (t) => {
    const { api, allocation } = await begun(t, freeLocks, new Problem(503, "the server is stopping"));
    assert.equal(trouble(allocation), "Not known: the server is stopping");
    api.held = view(1, { a: 1 });
    t.mock.timers.tick(MAX_MS);
    await turns();
    assert.equal(trouble(allocation), "");
    api.held = Problem.unreachable();
    t.mock.timers.tick(READ_MS);
    await turns();
    assert.equal(trouble(allocation), "Not up to date: The server does not answer.");
  });

  test("a server that was started anew counts anew", async (t) => {
    const { api, allocation } = await begun(t, undefined, view(7, { a: 7 }));
    api.held = view(1, { a: 1 });
    t.mock.timers.tick(READ_MS);
    await turns();
    assert.deepEqual(weightsOf(allocation), { a: 1 });
  });

  test("follows the server, but not backwards", async (t) => {
    const { api, allocation } = await followed(t);
    await api.tell(view(3, { a: 3, b: 1 }));
    await api.tell(view(2, { a: 2, b: 1 }));
    assert.deepEqual(weightsOf(allocation), { a: 3, b: 1 });
  });

  test("sends at once, then the newest of what changed meanwhile, five times a second at most", async (t) => {
    const { api, allocation } = await followed(t);
    const weigh = (share) => allocation.change({ cameras: share });
    api.answers.push(() => view(2, { a: 2, b: 1 }), () => view(3, { a: 4, b: 7 }));
    weigh({ a: { weight: 2 } });
    assert.deepEqual(api.changes, [{ cameras: { a: { weight: 2 } } }]);
    weigh({ a: { weight: 3 } });
    weigh({ b: { weight: 7 } });
    weigh({ a: { weight: 4 } });
    assert.deepEqual(weightsOf(allocation), { a: 4, b: 7 }, "what is wanted is shown");
    await turn();
    t.mock.timers.tick(PERIOD_MS - 1);
    await turn();
    assert.equal(api.changes.length, 1);
    // Somebody else's change to the same camera is not shown over what is wanted here.
    await api.tell(view(2, { a: 9, b: 9 }, 500));
    assert.deepEqual([weightsOf(allocation), allocation.view.totalKbps], [{ a: 4, b: 7 }, 500]);
    t.mock.timers.tick(1);
    for (let step = 0; step < 3; step++) await turn();
    assert.deepEqual(api.changes.slice(1), [{ cameras: { a: { weight: 4 }, b: { weight: 7 } } }]);
    t.mock.timers.tick(10 * PERIOD_MS);
    await turn();
    assert.equal(api.changes.length, 2);
  });

  test("says why a change is refused, until one is not", async (t) => {
    const { api, allocation } = await followed(t);
    const problems = [];
    allocation.addEventListener("problem", () => problems.push(allocation.problem?.message ?? null));
    api.answers.push(() => {
      throw new Problem(422, "min exceeds max");
    }, () => view(2, { a: 1, b: 2 }));
    allocation.change({ cameras: { a: { minKbps: 3_000 } } });
    for (let step = 0; step < 3; step++) await turn();
    assert.equal(allocation.view.cameras[0].minKbps, 30);
    t.mock.timers.tick(PERIOD_MS);
    for (let step = 0; step < 3; step++) await turn();
    allocation.change({ cameras: { b: { weight: 2 } } });
    for (let step = 0; step < 3; step++) await turn();
    assert.deepEqual(problems, ["min exceeds max", null]);
  });

  test("waits as long as a busy server asks, and loses nothing", async (t) => {
    const { api, allocation } = await followed(t);
    api.answers.push(() => {
      throw new Problem(429, "too many requests", { retryAfterMs: 1_000 });
    }, () => view(2, { a: 3, b: 1 }, 900));
    allocation.change({ totalKbps: 900, cameras: { a: { weight: 2 } } });
    for (let step = 0; step < 3; step++) await turn();
    allocation.change({ cameras: { a: { weight: 3 } } });
    t.mock.timers.tick(PERIOD_MS);
    for (let step = 0; step < 3; step++) await turn();
    t.mock.timers.tick(999);
    for (let step = 0; step < 3; step++) await turn();
    assert.equal(api.changes.length, 1);
    t.mock.timers.tick(1);
    for (let step = 0; step < 3; step++) await turn();
    assert.deepEqual(api.changes[1], { totalKbps: 900, cameras: { a: { weight: 3 } } });
  });
});

describe("the allocation in words", () => {
  const camera = { weight: 1, minKbps: 300, maxKbps: 2_000, state: "allocated", qualityLimitationReason: "bandwidth", actualKbps: 900 };

  test("a camera's outcome has its reason", () => {
    const outcomes = [
      [{ framesPerSecond: 29.9, frameWidth: 640, frameHeight: 360 }, "limited by bandwidth, 640×360, 30 fps"],
      [{ qualityLimitationReason: "cpu" }, "limited by CPU"],
      [{ qualityLimitationReason: "none" }, "not limited"],
      [{ state: "paused" }, "paused: its minimum of 300 kb/s, with headers on top, does not fit"],
      [{ state: "paused", weight: 0 }, "off"],
      [{ state: "inactive" }, "goes to nobody"],
    ];
    for (const [differs, words] of outcomes) assert.equal(outcome({ ...camera, ...differs }), words);
  });

  test("a total that bounds nothing is said to", () => {
    const cameras = [camera, { ...camera, weight: 4 }];
    const note = (totalKbps) => noteOn({ totalKbps, ...demand({ cameras, overheadKbps: 50 }) }, cameras);
    assert.match(note(null).brief, /No total is set/);
    assert.match(note(null).more, /only once/);
    assert.match(note(4_050).brief, /Enough for all maxima/);
    assert.match(note(4_050).more, /only once/);
    assert.deepEqual(note(4_049), { brief: "1.8 Mb/s sent. 50 kb/s for headers.", more: "" });
    assert.match(note(250).more, /much of so small a total/);
    const nobody = noteOn({ totalKbps: 1_000, wantedKbps: 0 }, [{ ...camera, state: "inactive" }]);
    assert.deepEqual(nobody, { brief: "Nobody watches.", more: "" });
  });

  test("what is not for pictures is told", () => {
    const { brief } = noteOn({ totalKbps: 1_000, ...demand({ cameras: [camera], overheadKbps: 29.6, audioKbps: 128 }) }, [camera]);
    assert.equal(brief, "900 kb/s sent. 30 kb/s for headers and 128 kb/s for sound.");
  });

  test("a camera's part is what it is to send, of what all are to", () => {
    const of = (name, targetKbps, state = "allocated") => ({ name, weight: 1, targetKbps, state });
    const cameras = [of("a", 600), of("b", 200), of("c", 0, "inactive"), of("d", 0, "paused")];
    assert.deepEqual([...shares({ totalKbps: 800, cameras })], [["a", 0.75], ["b", 0.25], ["c", null], ["d", 0]]);
    assert.deepEqual([...shares({ totalKbps: null, cameras }).values()], [null, null, null, null], "nothing is shared");
    assert.deepEqual([...shares({ totalKbps: 10, cameras: [of("d", 0, "paused")] })], [["d", 0]]);
  });

  test("the total's slider reaches beyond what the cameras could use, and what is set", () => {
    const cameras = [camera, camera];
    assert.deepEqual(totalScale({ totalKbps: null, cameras }), { max: 4_800, step: 10 });
    assert.deepEqual(totalScale({ totalKbps: 60_000, cameras }), { max: 60_000, step: 1_000 });
    const unbounded = [{ ...camera, maxKbps: 1e9 }];
    assert.deepEqual(totalScale({ totalKbps: 3_000, cameras: unbounded }), { max: 100_000, step: 1_000 });
    assert.equal(totalScale({ totalKbps: 150_000, cameras: unbounded }).max, 150_000);
  });
});

describe("back-off", () => {
  test("stays within its bounds, grows, and starts anew", () => {
    const backoff = new Backoff(random(7));
    const waits = Array.from({ length: 1_000 }, () => backoff.next());
    assert.ok(waits.every((wait) => wait >= MIN_MS && wait <= MAX_MS));
    assert.ok(waits[0] <= 3 * MIN_MS);
    assert.ok(Math.max(...waits) > 0.8 * MAX_MS);
    assert.ok(new Set(waits.map(Math.round)).size > 500, "waits differ");
    backoff.reset();
    assert.ok(backoff.next() <= 3 * MIN_MS);
  });

  test("never comes before Retry-After, nor all at once after it", () => {
    const backoff = new Backoff(random(8));
    const waits = Array.from({ length: 100 }, () => backoff.next(8_000));
    assert.ok(waits.every((wait) => wait >= 8_000 && wait <= 8_000 + MIN_MS));
    assert.ok(new Set(waits.map(Math.round)).size > 50);
  });
});

describe("shared sessions", () => {
  globalThis.MediaStream ??= class {};
  const camera = (name) => ({ name, codec: "VP8", whep: `/whep/${name}` });

  // Players of cameras with these names, whose sessions `answer` opens or refuses, by the endpoint.
  function players(names, answer) {
    const asked = [];
    const opened = [];
    const sharing = new SharedSessions(async (endpoint, { cameras = 1 }) => {
      asked.push(endpoint);
      const problem = answer(endpoint);
      if (problem) throw problem;
      const session = {
        changes: [],
        transceivers: Array.from({ length: cameras }, (_, mid) => ({ mid: String(mid), receiver: { track: {} } })),
        wasConnected: true,
        canChooseLayer: true,
        setPaused: async (paused, mediaId) => session.changes.push([mediaId, paused]),
        chooseLayer: async (layer, mediaId) => session.changes.push([mediaId, layer]),
        close: () => session.over(null),
      };
      session.ended = new Promise((resolve) => {
        session.over = resolve;
      });
      opened.push(session);
      return session;
    });
    const open = (name, options = {}) => sharing.open(camera(name), { signal: new AbortController().signal, ...options });
    return { asked, opened, open, all: () => Promise.allSettled(names.map((name) => open(name))) };
  }

  const isOver = (session) => Promise.race([session.ended.then(() => true), new Promise((resolve) => setTimeout(resolve, 0, false))]);

  test("are opened for those that begin within a moment, sixteen at most, and alone for one", async () => {
    const names = Array.from({ length: 17 }, (_, index) => `c${index}`);
    const { asked, all } = players(names, () => null);
    await all();
    assert.deepEqual(asked, [`/whep/${names.slice(0, 16).join(",")}`, "/whep/c16"]);
  });

  test("stay while somebody plays, pause who leaves, and take in who comes back", async () => {
    const { asked, opened, open, all } = players(["a", "b"], () => null);
    const [a, b] = (await all()).map(({ value }) => value);
    a.close();
    await delay(150, new AbortController().signal);
    assert.deepEqual(opened[0].changes, [["0", true]]);
    const again = await open("a", { layer: 0 });
    assert.ok(again.isResumed && !b.isResumed);
    assert.deepEqual(opened[0].changes, [["0", true], ["0", false], ["0", 0]]);
    again.close();
    assert.equal(await isOver(opened[0]), false);
    b.close();
    assert.equal(await isOver(opened[0]), true);
    assert.equal(asked.length, 1);
  });

  test("do not take in whose camera did not play", async () => {
    const { asked, open, all } = players(["a", "b"], () => null);
    const [a] = (await all()).map(({ value }) => value);
    a.close({ isOver: true });
    await open("a");
    assert.deepEqual(asked, ["/whep/a,b", "/whep/a"]);
  });

  test("go on for the others if the first has given up meanwhile", async () => {
    const first = new AbortController();
    const { opened, open } = players([], () => {
      first.abort("enough");
      return null;
    });
    const [a, b] = await Promise.allSettled([open("a", { signal: first.signal }), open("b")]);
    assert.deepEqual([a.status, a.reason, b.status], ["rejected", "enough", "fulfilled"]);
    assert.equal(await isOver(opened[0]), false);
    await assert.rejects(open("a", { signal: first.signal }), (reason) => reason === "enough");
  });

  test("that are lost are lost for all, who are told to come back at the same time", async () => {
    const { opened, all } = players(["a", "b"], () => null);
    const views = (await all()).map(({ value }) => value);
    opened[0].over(new Problem(0, "gone"));
    const [a, b] = await Promise.all(views.map(({ ended }) => ended));
    assert.equal(a.message, "gone");
    assert.ok(a.againMs >= MIN_MS && a.againMs === b.againMs);
  });

  test("that are refused are each their own, unless what is wrong is the same for all", async () => {
    for (const status of [400, 404, 422, 503]) {
      const { asked, all } = players(["a", "b"], (endpoint) => (endpoint.includes("b") ? new Problem(status, "no") : null));
      assert.deepEqual((await all()).map(({ status }) => status), ["fulfilled", "rejected"]);
      assert.deepEqual(asked, ["/whep/a,b", "/whep/a", "/whep/b"]);
    }
    for (const status of [0, 401, 403, 429, 500]) {
      const { asked, all } = players(["a", "b"], () => new Problem(status, "no", { retryAfterMs: 7_000 }));
      const [a, b] = (await all()).map(({ reason }) => reason);
      assert.ok(a.againMs === b.againMs && a.againMs >= 7_000, `${status}: ${a.againMs}, ${b.againMs}`);
      assert.deepEqual(asked, ["/whep/a,b"]);
    }
  });

  test("wait together once for a camera that is not live yet, as after the server's start", async () => {
    const { asked, all } = players(["a", "b"], (endpoint) => (endpoint.includes("b") ? new Problem(409, "not live") : null));
    assert.deepEqual((await all()).map(({ status }) => status), ["rejected", "rejected"]);
    assert.deepEqual((await all()).map(({ status }) => status), ["fulfilled", "rejected"]);
    assert.deepEqual(asked, ["/whep/a,b", "/whep/a,b", "/whep/a", "/whep/b"]);
  });
});

describe("waits", () => {
  test("end with their signal", async () => {
    const stop = new AbortController();
    const waits = Promise.all([delay(2 ** 31 - 1, stop.signal), event(new EventTarget(), "never", stop.signal)]);
    stop.abort();
    await waits;
    await delay(2 ** 31 - 1, stop.signal);
    await event(new EventTarget(), "never", stop.signal);
  });

  test("end with their event", async () => {
    const target = new EventTarget();
    const wait = event(target, "now", new AbortController().signal);
    target.dispatchEvent(new Event("now"));
    await wait;
  });
});

describe("the server's clock", () => {
  test("is unknown before the first answer and after a new start", () => {
    const clock = new ServerClock();
    assert.deepEqual([clock.unixAt(5), clock.errorAt(5)], [null, null]);
    clock.add(0, 1, 1_000);
    clock.forget();
    assert.equal(clock.unixAt(5), null);
  });

  test("is taken from the quickest answer", () => {
    const clock = new ServerClock();
    // The server is 1,000,000 ms ahead; the slow answers spent all their time on the way back.
    clock.add(100, 190, 1_000_100);
    clock.add(200, 202, 1_000_201);
    clock.add(300, 360, 1_000_300);
    assert.equal(clock.unixAt(400), 1_000_400);
    assert.ok(clock.errorAt(400) < 1.1);
  });

  test("is never wrong by more than it says", () => {
    const next = random(3);
    for (let round = 0; round < 300; round++) {
      const clock = new ServerClock();
      const offset = (next() - 0.5) * 1e12;
      const drift = (next() - 0.5) * 2 * 50e-6;
      const truth = (at) => at + offset + at * drift;
      let at = 0;
      for (let answer = 0; answer < 40; answer++) {
        at += next() * 20_000;
        const roundTrip = next() * 100;
        clock.add(at, at + roundTrip, truth(at + next() * roundTrip));
        const later = at + roundTrip + next() * 60_000;
        const wrong = Math.abs(clock.unixAt(later) - truth(later));
        assert.ok(wrong <= clock.errorAt(later) + 1e-3, `${wrong} > ${clock.errorAt(later)}`);
      }
    }
  });

  test("follows a drift although the quickest answer is old", () => {
    const clock = new ServerClock();
    clock.add(0, 0.1, 0.05);
    for (let at = 10_000; at <= 1_000_000; at += 10_000) clock.add(at, at + 4, (at + 2) * (1 + 50e-6));
    assert.ok(Math.abs(clock.unixAt(1_000_000) - 1_000_050) < 3);
  });
});

describe("a capture clock", () => {
  const clock = new CaptureClock({ rtpTimestamp: 10, unixMs: 5_000 });

  test("counts 90 ticks a millisecond, forwards and backwards", () => {
    assert.equal(clock.unixMsOf(10 + 9_000), 5_100);
    assert.equal(new CaptureClock({ rtpTimestamp: 9_000, unixMs: 5_000 }).unixMsOf(0), 4_900);
  });

  test("wraps at 32 bits", () => {
    assert.equal(clock.unixMsOf((10 - 9_000) >>> 0), 4_900);
    assert.equal(new CaptureClock({ rtpTimestamp: 2 ** 32 - 4_500, unixMs: 5_000 }).unixMsOf(4_500), 5_100);
  });
});

describe("latency", () => {
  test("quantiles are values that were there", () => {
    assert.equal(quantile([], 0.5), null);
    assert.equal(quantile([3], 0.95), 3);
    const values = Array.from({ length: 100 }, (_, index) => 100 - index);
    assert.deepEqual([0, 0.5, 0.95, 1].map((q) => quantile(values, q)), [1, 50, 95, 100]);
  });

  test("forgets what is older than its window", () => {
    const meter = new LatencyMeter(1_000);
    meter.add(0, 500);
    meter.add(900, 20);
    assert.equal(meter.quantile(1, 900), 500);
    assert.equal(meter.quantile(1, 1_500), 20);
    assert.equal(meter.quantile(1, 5_000), null);
  });
});

describe("reception", () => {
  const report = (inbound, others = []) => {
    const entries = [{ id: "i", type: "inbound-rtp", kind: "video", codecId: "c", ...inbound }, { id: "c", type: "codec", mimeType: "video/VP8" }, ...others];
    return new Map(entries.map((entry) => [entry.id, entry]));
  };

  test("rates are per second, whatever the time between two readings", () => {
    const reception = new Reception();
    const first = reception.read(report({ timestamp: 1_000, framesDecoded: 10, bytesReceived: 1_000, packetsReceived: 100, packetsLost: 0 }));
    assert.deepEqual([first.framesPerSecond, first.bitsPerSecond, first.lossRatio], [null, null, null]);
    const second = reception.read(report({ timestamp: 1_500, framesDecoded: 25, bytesReceived: 126_000, packetsReceived: 190, packetsLost: 10 }));
    assert.deepEqual([second.framesPerSecond, second.bitsPerSecond, second.lossRatio, second.codec], [30, 2_000_000, 0.1, "video/VP8"]);
  });

  test("loss is of the last five seconds, and what was repaired is none", () => {
    const reception = new Reception();
    let last;
    for (let second = 0; second <= 20; second++) {
      const packetsLost = second < 3 ? second * 10 : 25;
      last = reception.read(report({ timestamp: second * 1_000, packetsReceived: second * 100, packetsLost }));
      if (second === 2) assert.equal(last.lossRatio, 20 / 220);
    }
    assert.equal(last.lossRatio, 0);
    assert.equal(reception.read(report({ timestamp: 21_000, packetsReceived: 2_100, packetsLost: 10 })).lossRatio, 0);
  });

  test("the round trip is that of the pair in use", () => {
    const pairs = [
      { id: "a", type: "candidate-pair", nominated: true, currentRoundTripTime: 0.5 },
      { id: "b", type: "candidate-pair", nominated: true, currentRoundTripTime: 0.002 },
    ];
    const chromium = report({ timestamp: 0 }, [...pairs, { id: "t", type: "transport", selectedCandidatePairId: "b" }]);
    assert.equal(new Reception().read(chromium).roundTripMs, 2);
    const firefox = report({ timestamp: 0 }, [{ ...pairs[0], selected: false }, { ...pairs[1], selected: true }]);
    assert.equal(new Reception().read(firefox).roundTripMs, 2);
    assert.equal(new Reception().read(report({ timestamp: 0 })).roundTripMs, null);
  });

  test("without a stream there is nothing", () => {
    assert.equal(new Reception().read(new Map()), null);
  });
});

describe("layout", () => {
  const desktop = { width: 1_416, height: 828, foot: 110 };

  test("few cameras fit the window as large as can be", () => {
    for (const [count, columns] of [[1, 1], [2, 2], [3, 2], [4, 2], [6, 3]]) {
      const { columns: chosen, tileWidth } = layOut(count, desktop);
      assert.equal(chosen, columns, `${count} cameras`);
      const rows = Math.ceil(count / columns);
      assert.ok(rows * ((tileWidth * 9) / 16 + desktop.foot) + (rows - 1) * 12 <= desktop.height, `${count} cameras do not fit`);
    }
  });

  test("many cameras scroll, and stay readable", () => {
    assert.deepEqual(layOut(100, desktop), { columns: 4, tileWidth: 345 });
    assert.deepEqual(layOut(3, { width: 366, height: 784, foot: 110 }), { columns: 1, tileWidth: 366 });
  });

  test("nothing is ever wider than the window, nor without columns", () => {
    const next = random(5);
    for (let round = 0; round < 2_000; round++) {
      const room = { width: 200 + next() * 3_000, height: next() * 2_000 - 100, foot: next() * 200 };
      const count = 1 + Math.floor(next() * 256);
      const { columns, tileWidth } = layOut(count, room);
      assert.ok(columns >= 1 && columns <= count && tileWidth > 0);
      assert.ok(columns * tileWidth + (columns - 1) * 12 <= room.width, JSON.stringify({ room, count, columns, tileWidth }));
      assert.ok(tileWidth >= MIN_TILE || columns === 1, JSON.stringify({ room, count, columns, tileWidth }));
    }
  });
});

describe("figures", () => {
  test("are short and never a lie about what is unknown", () => {
    const unknown = [null, undefined, NaN].map((value) => format.bitrate(value) + format.milliseconds(value) + format.percent(value));
    assert.deepEqual(unknown, ["–––", "–––", "–––"]);
    assert.deepEqual([format.bitrate(2_512_000), format.bitrate(999_600), format.bitrate(84_400)], ["2.5 Mb/s", "1.0 Mb/s", "84 kb/s"]);
    assert.deepEqual([format.milliseconds(8.24), format.milliseconds(9.96), format.milliseconds(80.4)], ["8.2 ms", "10 ms", "80 ms"]);
    assert.deepEqual([format.millisecondsPair(8.2, 11.3), format.millisecondsPair(1, null)], ["8.2/11 ms", "–"]);
    assert.deepEqual([format.percent(0), format.percent(0.0123), format.percent(0.5)], ["0 %", "1.2 %", "50 %"]);
    assert.deepEqual([format.roundTrip(0), format.roundTrip(1.4)], ["<1 ms", "1.4 ms"]);
    assert.deepEqual([format.rate(29.97), format.rate(4.96)], ["30 fps", "5.0 fps"]);
    assert.deepEqual([format.resolution(640, 272), format.resolution(null, null)], ["640×272", "–"]);
    assert.deepEqual([format.seconds(7.2), format.seconds(300), format.seconds(7_300)], ["7 s", "5 min", "2 h"]);
  });
});
