// How long to wait before the next attempt: random, growing, so that a crowd of viewers does not come back all at once.

export const MIN_MS = 500;
export const MAX_MS = 5_000;

export class Backoff {
  #random;
  #last = MIN_MS;

  constructor(random = Math.random) {
    this.#random = random;
  }

  // The next wait in milliseconds, MIN_MS to MAX_MS, unless `retryAfterMs` asks for more; that gets jitter on top.
  next(retryAfterMs = null) {
    // Each wait is random up to three times the one before.
    const ceiling = Math.min(MAX_MS, this.#last * 3);
    this.#last = MIN_MS + this.#random() * (ceiling - MIN_MS);
    return retryAfterMs === null ? this.#last : Math.max(this.#last, retryAfterMs + this.#random() * MIN_MS);
  }

  // It worked: the next failure starts small again.
  reset() {
    this.#last = MIN_MS;
  }
}
