// Looks over the page's shoulder: what a page sends, receives and shows, measured beside its own code.

// To be called before the page is opened.
export function attachProbe(context) {
  return context.addInitScript(() => {
    const probe = (window.probe = { offeredAt: {}, shownAt: {}, requests: [], connections: [] });
    const fetch = window.fetch;
    window.fetch = function (resource, options) {
      const { pathname } = new URL(resource, location.href);
      const method = options?.method ?? "GET";
      probe.requests.push({ method, pathname, at: performance.now() });
      if (method === "POST" && pathname.startsWith("/whep/")) pathname.slice(6).split(",").forEach((camera) => (probe.offeredAt[camera] ??= performance.now()));
      return fetch.call(this, resource, options);
    };
    window.RTCPeerConnection = class extends window.RTCPeerConnection {
      constructor(...args) {
        super(...args);
        probe.connections.push(this);
      }
    };
    const watched = new WeakSet();
    new MutationObserver(() => {
      for (const video of document.querySelectorAll("[data-camera] video")) {
        if (watched.has(video)) continue;
        watched.add(video);
        const { camera } = video.closest("[data-camera]").dataset;
        video.requestVideoFrameCallback(() => {
          probe.shownAt[camera] ??= performance.now();
        });
      }
    }).observe(document, { childList: true, subtree: true });
  });
}

// Milliseconds from the first offer for `camera` to its first picture; null if one of them is yet to come.
export function firstFrameMs(page, camera) {
  return page.evaluate((camera) => {
    const { offeredAt, shownAt } = window.probe;
    return camera in offeredAt && camera in shownAt ? shownAt[camera] - offeredAt[camera] : null;
  }, camera);
}

// The `inbound-rtp` statistics of the page's newest connection, read now.
export function received(page) {
  return page.evaluate(async () => {
    const report = await window.probe.connections.at(-1).getStats();
    return [...report.values()].find(({ type, kind }) => type === "inbound-rtp" && kind === "video") ?? null;
  });
}

// What the page has asked for: { method, pathname, at }, `at` on its performance.now().
export function requests(page) {
  return page.evaluate(() => window.probe.requests);
}
