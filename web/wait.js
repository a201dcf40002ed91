// Waits that can be cut short. None rejects: whoever waits looks at the signal anyway.

// setTimeout's longest.
export const FOREVER_MS = 2 ** 31 - 1;

// Until `ms` have passed or `signal` aborts.
export function delay(ms, signal) {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}

// Until `target` fires `type` or `signal` aborts.
export function event(target, type, signal) {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      target.removeEventListener(type, done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    target.addEventListener(type, done);
    signal.addEventListener("abort", done);
  });
}
