// Sessions that several players share: those that begin within a moment have one connection together, so that what the network
// carries is shared among their cameras as one, and not fought over by each.
//
// Each player gets a `View`, which it uses as it would a `WhepSession` of its own. A player that leaves while others stay has its
// camera paused; if it comes back, its camera goes on in the same session. When the last one leaves, the session is deleted. A
// session that is lost is lost for all, and all are told to come again at the same time, and so come together.
//
// What it does not do: add a camera to a session that is there, which would take another offer. Who comes later has a session of
// its own, alone or with others that come at the same time.

import { Backoff } from "./backoff.js";
import { Problem } from "./problem.js";
import { WhepSession } from "./whep.js";

// Players that begin within this time begin together.
const GATHER_MS = 50;

// A camera that is left is paused after this time: until then all may have been left, and the session is deleted instead.
const LEAVE_MS = 50;

// The most that the server shows in one session.
const MAX_CAMERAS = 16;

// A camera that is not live fails all, but right after the server's start none may be: this often they try together again.
const NOT_LIVE_TRIES = 2;

export class SharedSessions {
  // Players that wait for others: { camera, layer, token, signal, resolve, reject }.
  #waiting = [];
  #timer;
  #shared = new Set();
  #backoff = new Backoff();
  #notLive = 0;
  #openSession;

  constructor(openSession = WhepSession.open) {
    this.#openSession = openSession;
  }

  // A view of `camera`, as the API describes it, with that layer of it at most; null: the best. Rejects with a Problem, or with
  // the signal's reason.
  async open(camera, { layer = null, token = null, signal }) {
    signal.throwIfAborted();
    for (const shared of this.#shared) {
      const view = await shared.resume(camera, layer);
      if (!view) continue;
      if (!signal.aborted) return view;
      view.close();
      break;
    }
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const request = { camera, layer, token, signal, resolve, reject };
      signal.addEventListener("abort", () => {
        this.#waiting = this.#waiting.filter((other) => other !== request);
        reject(signal.reason);
      }, { once: true });
      this.#waiting.push(request);
      this.#timer ??= setTimeout(() => this.#begin(), GATHER_MS);
    });
  }

  #begin() {
    this.#timer = undefined;
    const waiting = this.#waiting.filter(({ signal }) => !signal.aborted);
    // One whose player has changed its mind meanwhile may be there twice.
    const distinct = [...new Map(waiting.map((request) => [request.camera.name, request])).values()];
    this.#waiting = waiting.filter((request) => !distinct.includes(request));
    if (this.#waiting.length > 0) this.#timer = setTimeout(() => this.#begin(), GATHER_MS);
    while (distinct.length > 0) this.#open(distinct.splice(0, MAX_CAMERAS));
  }

  async #open(requests) {
    if (requests.length === 1) return this.#openAlone(requests[0]);
    // It is given up when all have given up.
    const abort = new AbortController();
    const giveUp = () => requests.every(({ signal }) => signal.aborted) && abort.abort(requests[0].signal.reason);
    for (const { signal } of requests) signal.addEventListener("abort", giveUp, { once: true });
    const endpoint = endpointOf(requests.map(({ camera }) => camera));
    try {
      const session = await this.#openSession(endpoint, { token: requests[0].token, signal: abort.signal, cameras: requests.length });
      this.#notLive = 0;
      this.#share(session, requests);
    } catch (error) {
      if (abort.signal.aborted) return;
      this.#refuse(error, requests);
    } finally {
      for (const { signal } of requests) signal.removeEventListener("abort", giveUp);
    }
  }

  #share(session, requests) {
    const shared = new SharedSession(session, requests.map(({ camera }) => camera));
    this.#shared.add(shared);
    session.ended.then((problem) => {
      this.#shared.delete(shared);
      if (problem && session.wasConnected) this.#backoff.reset();
      shared.end(problem && together(problem, this.#backoff));
    });
    // All before the first of them is left: a session that nobody has a view of is over.
    const views = requests.map(({ layer }, position) => shared.view(position, layer));
    requests.forEach(({ signal, resolve }, position) => {
      if (signal.aborted) views[position].close();
      else resolve(views[position]);
    });
  }

  // What is wrong with one need not be wrong with the others, unless it is the way there, or the right to go it.
  #refuse(problem, requests) {
    const waits = problem.status === 409 && ++this.#notLive < NOT_LIVE_TRIES;
    const isForAll = problem.status === 0 || [401, 403, 429].includes(problem.status) || (problem.status >= 500 && problem.status !== 503);
    const staying = requests.filter(({ signal }) => !signal.aborted);
    if (waits || isForAll) {
      const told = together(problem, this.#backoff);
      for (const { reject } of staying) reject(told);
    } else {
      this.#notLive = 0;
      for (const request of staying) this.#openAlone(request);
    }
  }

  async #openAlone({ camera, layer, token, signal, resolve, reject }) {
    const endpoint = layer === null ? camera.whep : `${camera.whep}?layer=${layer}`;
    try {
      resolve(await this.#openSession(endpoint, { token, signal }));
    } catch (error) {
      reject(error);
    }
  }
}

// One connection with several cameras.
class SharedSession {
  #session;
  // By the sections of the offer: { name, codec, layer, view, isOver, asked, timer }. `layer` is what was asked for last, `asked`
  // settles when the server has answered the last request.
  #media;
  #isOver = false;

  constructor(session, cameras) {
    this.#session = session;
    this.#media = cameras.map(({ name, codec }) => ({ name, codec, layer: null, view: null, isOver: false, asked: Promise.resolve(), timer: null }));
  }

  get session() {
    return this.#session;
  }

  view(position, layer, resumedAt = null) {
    const view = new View(this, position, resumedAt);
    this.#media[position].view = view;
    if (layer !== this.#media[position].layer) view.chooseLayer(layer).catch((problem) => view.lose(problem));
    return view;
  }

  chooseLayer(position, layer) {
    this.#media[position].layer = layer;
    return this.ask(position, () => this.#session.chooseLayer(layer, this.mediaId(position)));
  }

  // A view of a camera that was left and can go on here; null if there is none.
  async resume({ name, codec }, layer) {
    const position = this.#media.findIndex((medium) => medium.name === name && medium.codec === codec && !medium.isOver && !medium.view);
    if (position < 0 || this.#isOver) return null;
    const medium = this.#media[position];
    const at = performance.now();
    // Taken from now on, and the session is not left.
    medium.view = RESUMING;
    clearTimeout(medium.timer);
    try {
      await this.ask(position, () => this.#session.setPaused(false, this.mediaId(position)));
    } catch {
      medium.isOver = true;
      medium.view = null;
      this.leaveIfEmpty();
      return null;
    }
    if (this.#isOver) return null;
    return this.view(position, layer, at);
  }

  // Has the session asked for something of a camera, after what was asked for before.
  ask(position, request) {
    const medium = this.#media[position];
    const asked = medium.asked.then(request);
    medium.asked = asked.catch(() => {});
    return asked;
  }

  mediaId(position) {
    return this.#session.transceivers[position].mid;
  }

  // A view is closed; if `isOver`, its camera is not to be played here any more.
  left(position, isOver) {
    const medium = this.#media[position];
    medium.view = null;
    medium.isOver ||= isOver;
    if (this.leaveIfEmpty()) return;
    medium.timer = setTimeout(() => {
      if (medium.view || this.#isOver) return;
      // Whether it is done changes nothing here: it costs bandwidth, no more.
      this.ask(position, () => this.#session.setPaused(true, this.mediaId(position))).catch(() => {});
    }, LEAVE_MS);
  }

  // Ends the session if nobody has a view of it. True if it is over.
  leaveIfEmpty() {
    if (!this.#isOver && this.#media.every(({ view }) => view === null)) {
      this.#isOver = true;
      this.#session.close();
    }
    return this.#isOver;
  }

  // The session is over, with a Problem if it was lost.
  end(problem) {
    const lost = !this.#isOver && problem;
    this.#isOver = true;
    for (const { view, timer } of this.#media) {
      clearTimeout(timer);
      if (lost) view?.lose(problem);
    }
    // Lost or closed, the connection holds a port until it is closed.
    this.#session.close();
  }
}

// In the place of a view that is about to be made.
const RESUMING = { lose() {} };

// One camera of a shared session, as a player uses it.
class View {
  #shared;
  #position;
  #resolveEnded;
  #isClosed = false;

  constructor(shared, position, resumedAt) {
    const { session } = shared;
    this.#shared = shared;
    this.#position = position;
    // It was played before: what its receiver has counted is not this player's alone.
    this.isResumed = resumedAt !== null;
    this.offeredAt = resumedAt ?? session.offeredAt;
    this.receiver = session.transceivers[position].receiver;
    this.stream = new MediaStream([this.receiver.track]);
    this.secret = session.secret;
    // Resolves when it is over: with a Problem if the session was lost, with null after `close`.
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
  }

  get mediaId() {
    return this.#shared.mediaId(this.#position);
  }

  get canChooseLayer() {
    return this.#shared.session.canChooseLayer;
  }

  chooseLayer(layer) {
    return this.#shared.chooseLayer(this.#position, layer);
  }

  // Its player plays it no more. With `isOver`, because it did not play: then it is not to go on here either.
  close({ isOver = false } = {}) {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#resolveEnded(null);
    this.#shared.left(this.#position, isOver);
  }

  // The server is known to have ended the session.
  endedByServer() {
    this.#shared.session.endedByServer();
  }

  lose(problem) {
    this.#resolveEnded(problem);
  }
}

// The address of several cameras: that of the first, with the other names behind its own.
function endpointOf(cameras) {
  const [first, ...others] = cameras.map(({ whep }) => whep);
  return [first, ...others.map((whep) => whep.slice(whep.lastIndexOf("/") + 1))].join(",");
}

// The same problem, with the time after which all are to come again.
function together(problem, backoff) {
  const { status, message, retryAfterMs } = problem;
  const again = new Problem(status, message, { retryAfterMs, cause: problem });
  again.againMs = backoff.next(retryAfterMs);
  return again;
}
