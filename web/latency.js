// How old a camera's pictures are when they show: a sliding view on the last frames.

export class LatencyMeter {
  #windowMs;
  // Oldest first: { at, ms }.
  #frames = [];

  constructor(windowMs = 5_000) {
    this.#windowMs = windowMs;
  }

  // A picture that was `ms` old was shown at `at` (performance.now()).
  add(at, ms) {
    this.#frames.push({ at, ms });
    this.#drop(at);
  }

  // The age that a share `q` (0 to 1) of the window's pictures did not exceed, in ms; null without pictures.
  quantile(q, now) {
    this.#drop(now);
    return quantile(this.#frames.map(({ ms }) => ms), q);
  }

  clear() {
    this.#frames = [];
  }

  #drop(now) {
    const first = this.#frames.findIndex(({ at }) => at > now - this.#windowMs);
    this.#frames.splice(0, first < 0 ? this.#frames.length : first);
  }
}

// The smallest of `values` that a share `q` of them does not exceed; null of none.
export function quantile(values, q) {
  if (values.length === 0) return null;
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(q * sorted.length) - 1))];
}
