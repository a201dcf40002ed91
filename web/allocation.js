// Who gets how much of the bandwidth: what the server says of it, followed as it changes, and what this page wants of it.
//
// | event | when |
// |---|---|
// | `change` | there is something new to show: from the server, or wanted here and not yet answered |
// | `problem` | `problem` has become another: why the last change was refused, or null |
//
// What is wanted goes out at once, and then at most every PERIOD_MS, one request at a time: of what changes faster, the newest
// counts. The last value is always sent.

import { Backoff } from "./backoff.js";
import { FOREVER_MS, delay } from "./wait.js";

export const PERIOD_MS = 200;

// The server tells by itself of what changes, not of what is measured.
const MEASURE_MS = 1_000;

const NEVER = new AbortController().signal;

export class Allocation extends EventTarget {
  #api;
  #backoff = new Backoff();
  #wake = new AbortController();
  #wakeMeasuring = new AbortController();
  #paused = false;
  #measured = false;
  // The server's newest word.
  #server = null;
  // What is being sent, and what is to be sent after it: as the API takes it, or null.
  #sending = null;
  #waiting = null;
  #isBusy = false;

  constructor(api) {
    super();
    this.#api = api;
    this.problem = null;
  }

  // As the API describes it, with what is wanted here in its place; null before the first answer.
  get view() {
    return this.#server && overlay(overlay(this.#server, this.#sending), this.#waiting);
  }

  // As the server has it; null before the first answer.
  get answered() {
    return this.#server;
  }

  // Follows the server until the page ends.
  async run() {
    this.#measure();
    for (;;) {
      const { signal } = (this.#wake = new AbortController());
      await delay(this.#paused ? FOREVER_MS : await this.#follow(signal), signal);
    }
  }

  // Begins to follow anew, whatever it waits for.
  followNow() {
    this.#wake.abort();
  }

  // While nobody looks there is nothing to follow.
  set paused(paused) {
    if (this.#paused === paused) return;
    this.#paused = paused;
    this.followNow();
    this.#wakeMeasuring.abort();
  }

  // Whether somebody looks at what is measured: what is really sent, and why not more.
  set measured(measured) {
    this.#measured = measured;
    this.#wakeMeasuring.abort();
  }

  // Asks for `totalKbps` (null: no limit), and for `weight`, `minKbps` and `maxKbps` of `cameras` by name; what is not named
  // stays.
  change(changes) {
    this.#waiting = merge(this.#waiting, changes);
    this.#changed();
    if (!this.#isBusy) this.#send();
  }

  // Resolves with how long to wait before it is tried again.
  async #follow(signal) {
    let isFirst = true;
    try {
      for await (const { type, data } of this.#api.allocationEvents(signal)) {
        if (type !== "allocation") continue;
        this.#backoff.reset();
        // A server that was started anew counts its versions anew.
        this.#take(JSON.parse(data), isFirst);
        isFirst = false;
      }
      return this.#backoff.next();
    } catch (problem) {
      // Whoever enters a token calls `followNow`. The camera list tells of a server that does not answer.
      return problem.status === 401 ? FOREVER_MS : this.#backoff.next(problem.retryAfterMs);
    }
  }

  async #measure() {
    for (;;) {
      const { signal } = (this.#wakeMeasuring = new AbortController());
      const isWanted = this.#measured && !this.#paused;
      if (isWanted && this.#server) await this.#reread();
      await delay(isWanted ? MEASURE_MS : FOREVER_MS, signal);
    }
  }

  // An answer and an event may overtake each other.
  #take(view, isFirst = false) {
    if (!isFirst && this.#server && view.version < this.#server.version) return;
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
      this.#setProblem(problem);
      this.#changed();
      await pause;
      if (problem?.status === 429) await delay(problem.retryAfterMs ?? PERIOD_MS, NEVER);
    }
    this.#isBusy = false;
  }

  // Resolves with what went wrong, or null.
  async #put(changes) {
    const problem = await this.#attempt(changes);
    // Somebody else was first: what was wanted here still is, of what is there now.
    return problem?.status === 409 && (await this.#reread()) ? this.#attempt(changes) : problem;
  }

  async #attempt(changes) {
    const version = this.#server?.version;
    try {
      this.#take(await this.#api.changeAllocation(version === undefined ? changes : { version, ...changes }));
      return null;
    } catch (problem) {
      return problem;
    }
  }

  async #reread() {
    try {
      this.#take(await this.#api.allocation());
      return true;
    } catch {
      return false;
    }
  }

  #setProblem(problem) {
    if (problem === this.problem) return;
    this.problem = problem;
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
