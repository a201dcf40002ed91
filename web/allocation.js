// Who gets how much of the bandwidth: what the server says of it, and what this page wants of it.
//
// | event | when |
// |---|---|
// | `change` | there is something new to show: from the server, or wanted here and not yet answered |
// | `problem` | `problem` or `lost` has become another: why the last change was refused, why the server's word is not known |
//
// It is asked for again and again, which works everywhere. Who looks at it closely is told of changes by a stream of events
// besides, at once. Such a stream holds one of the few connections that a browser has for a server (six, with HTTP/1.1): all
// windows of a browser together have one at most, and none where the browser offers no locks.
//
// What is wanted goes out at once, and then at most every PERIOD_MS, one request at a time: of what changes faster, the newest
// counts. The last value is always sent.

import { Backoff } from "./backoff.js";
import { FOREVER_MS, delay } from "./wait.js";

export const PERIOD_MS = 200;

// How often it is asked for: to know what the cameras may send, and to see what they do send.
export const READ_MS = 2_000;
export const READ_CLOSELY_MS = 1_000;

const LOCK = "lenscast.allocation";

const NEVER = new AbortController().signal;

export class Allocation extends EventTarget {
  #api;
  #locks;
  #readBackoff = new Backoff();
  #followBackoff = new Backoff();
  #wakeReading = new AbortController();
  #wakeFollowing = new AbortController();
  #paused = false;
  #hidden = false;
  #closely = false;
  // The server's newest word.
  #server = null;
  // What is being sent, and what is to be sent after it: as the API takes it, or null.
  #sending = null;
  #waiting = null;
  #isBusy = false;

  // `locks`: the browser's, which only pages from a trustworthy origin have.
  constructor(api, locks = globalThis.navigator?.locks) {
    super();
    this.#api = api;
    this.#locks = locks;
    this.problem = null;
    this.lost = null;
  }

  // As the API describes it, with what is wanted here in its place; null before the first answer.
  get view() {
    return this.#server && overlay(overlay(this.#server, this.#sending), this.#waiting);
  }

  // As the server has it; null before the first answer.
  get answered() {
    return this.#server;
  }

  // What the `count` thinnest of viewers' connections carry, as the API has it. Rejects with a Problem.
  viewers(count) {
    return this.#api.viewers(count);
  }

  // Reads and follows it until the page ends.
  run() {
    this.#keepReading();
    this.#keepFollowing();
  }

  // Asks now, whatever it waits for.
  askNow() {
    this.#wakeReading.abort();
  }

  // Asks and follows anew.
  beginAnew() {
    this.#wakeReading.abort();
    this.#wakeFollowing.abort();
  }

  // While nobody looks there is nothing to ask for.
  set paused(paused) {
    if (this.#paused === paused) return;
    this.#paused = paused;
    this.beginAnew();
  }

  // Whether the page is hidden, if only just now: it may still play, but nobody looks closely.
  set hidden(hidden) {
    if (this.#hidden === hidden) return;
    this.#hidden = hidden;
    this.beginAnew();
  }

  // Whether somebody looks at the shares themselves, with what is really sent and why not more.
  set closely(closely) {
    if (this.#closely === closely) return;
    this.#closely = closely;
    this.beginAnew();
  }

  // Asks for `totalKbps` (null: no limit), and for `weight`, `minKbps` and `maxKbps` of `cameras` by name; what is not named
  // stays.
  change(changes) {
    this.#waiting = merge(this.#waiting, changes);
    this.#changed();
    if (!this.#isBusy) this.#send();
  }

  get #isLookedAtClosely() {
    return this.#closely && !this.#hidden && !this.#paused;
  }

  async #keepReading() {
    for (;;) {
      const { signal } = (this.#wakeReading = new AbortController());
      await delay(this.#paused ? FOREVER_MS : await this.#read(), signal);
    }
  }

  // Resolves with how long to wait before it is read again.
  async #read() {
    const known = this.#server?.version;
    try {
      this.#take(await this.#api.allocation(), known);
      this.#readBackoff.reset();
      return this.#isLookedAtClosely ? READ_CLOSELY_MS : READ_MS;
    } catch (problem) {
      this.#tell({ lost: problem });
      // Whoever enters a token calls `beginAnew`.
      return problem.status === 401 ? FOREVER_MS : this.#readBackoff.next(problem.retryAfterMs);
    }
  }

  async #keepFollowing() {
    for (;;) {
      const { signal } = (this.#wakeFollowing = new AbortController());
      const isWanted = this.#isLookedAtClosely && this.#locks !== undefined;
      await delay(isWanted ? await this.#follow(signal) : FOREVER_MS, signal);
    }
  }

  // Resolves with how long to wait before it is tried again.
  async #follow(signal) {
    try {
      await this.#locks.request(LOCK, { signal }, () => this.#stream(signal));
      return this.#followBackoff.next();
    } catch (problem) {
      return problem.status === 401 ? FOREVER_MS : this.#followBackoff.next(problem.retryAfterMs ?? null);
    }
  }

  async #stream(signal) {
    let known = this.#server?.version;
    for await (const { type, data } of this.#api.allocationEvents(signal)) {
      if (type !== "allocation") continue;
      this.#followBackoff.reset();
      this.#take(JSON.parse(data), known);
      known = undefined;
    }
  }

  // Answers and events may overtake each other. But what was asked for when the version `known` was, and is older than that,
  // comes from a server that was started anew and counts its versions anew.
  #take(view, known = -Infinity) {
    this.#tell({ lost: null });
    const newest = this.#server?.version ?? -Infinity;
    if (view.version < newest && view.version >= known) return;
    this.#server = view;
    this.#changed();
  }

  async #send() {
    this.#isBusy = true;
    while (this.#waiting) {
      [this.#sending, this.#waiting] = [this.#waiting, null];
      const pause = delay(PERIOD_MS, NEVER);
      const problem = await this.#put(this.#sending);
      // Too much at a time, not too much at all.
      if (problem?.status === 429) this.#waiting = merge(this.#sending, this.#waiting);
      this.#sending = null;
      this.#tell({ problem });
      this.#changed();
      await pause;
      if (problem?.status === 429) await delay(problem.retryAfterMs ?? PERIOD_MS, NEVER);
    }
    this.#isBusy = false;
  }

  // Resolves with what went wrong, or null. It goes by no version: what somebody sets by hand holds, whoever was first.
  async #put(changes) {
    const known = this.#server?.version;
    try {
      this.#take(await this.#api.changeAllocation(changes), known);
      return null;
    } catch (problem) {
      return problem;
    }
  }

  #tell({ problem = this.problem, lost = this.lost }) {
    if (problem === this.problem && lost === this.lost) return;
    [this.problem, this.lost] = [problem, lost];
    this.dispatchEvent(new Event("problem"));
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

// `over` on top of `under`; either may be null.
function merge(under, over) {
  const cameras = { ...under?.cameras };
  for (const [name, share] of Object.entries(over?.cameras ?? {})) cameras[name] = { ...cameras[name], ...share };
  return Object.keys(cameras).length > 0 ? { ...under, ...over, cameras } : { ...under, ...over };
}

function overlay(view, changes) {
  if (!changes) return view;
  const { totalKbps = view.totalKbps, cameras = {} } = changes;
  return { ...view, totalKbps, cameras: view.cameras.map((camera) => ({ ...camera, ...cameras[camera.name] })) };
}
