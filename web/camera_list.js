// The server's cameras, asked for again and again.
//
// | event | when |
// |---|---|
// | `cameras` | an answer came: `cameras` holds it |
// | `problem` | none came: `problem` says why; `cameras` stays as it was |

import { Backoff } from "./backoff.js";
import { FOREVER_MS, delay } from "./wait.js";

const PERIOD_MS = 2_000;

export class CameraList extends EventTarget {
  #api;
  #backoff = new Backoff();
  #wake = new AbortController();
  #paused = false;

  constructor(api) {
    super();
    this.#api = api;
    // In the configuration's order; null before the first answer.
    this.cameras = null;
    // Why the last request failed; null if it did not.
    this.problem = null;
  }

  // Asks until the page ends.
  async run() {
    for (;;) {
      const { signal } = (this.#wake = new AbortController());
      await delay(this.#paused ? FOREVER_MS : await this.#ask(), signal);
    }
  }

  // Asks now, whatever it waits for.
  askNow() {
    this.#wake.abort();
  }

  // While nobody looks there is nothing to ask for.
  set paused(paused) {
    if (this.#paused === paused) return;
    this.#paused = paused;
    this.askNow();
  }

  async #ask() {
    try {
      this.cameras = await this.#api.cameras();
      this.problem = null;
      this.#backoff.reset();
      this.dispatchEvent(new Event("cameras"));
      return PERIOD_MS;
    } catch (problem) {
      this.problem = problem;
      this.dispatchEvent(new Event("problem"));
      // Whoever enters a token calls `askNow`.
      return problem.status === 401 ? FOREVER_MS : this.#backoff.next(problem.retryAfterMs);
    }
  }
}
