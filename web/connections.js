// What viewers' connections carry, and what each camera gets of it: those that carry least, since it is they that give way.
//
// They are asked for only while somebody looks at the panel.

import { write } from "./dom.js";
import * as format from "./format.js";
import { delay } from "./wait.js";

export const READ_MS = 2_000;

// A list of all would grow with the viewers that read it.
const SHOWN = 8;

export class ConnectionList {
  #allocation;
  #note;
  #list;
  #wake = new AbortController();
  #shown = false;
  #isReading = false;

  constructor(allocation) {
    this.#allocation = allocation;
    this.element = document.createElement("section");
    const title = document.createElement("h3");
    this.#note = document.createElement("p");
    this.#list = document.createElement("ul");
    title.textContent = "Viewers’ connections";
    this.#note.className = "note";
    this.#list.className = "shares";
    this.element.dataset.connections = "";
    this.element.append(title, this.#note, this.#list);
  }

  // Whether somebody looks at it.
  set shown(shown) {
    if (this.#shown === shown) return;
    this.#shown = shown;
    this.#wake.abort();
    if (shown && !this.#isReading) this.#keepReading();
  }

  async #keepReading() {
    this.#isReading = true;
    while (this.#shown) {
      const { signal } = (this.#wake = new AbortController());
      if (!document.hidden) await this.#read();
      await delay(READ_MS, signal);
    }
    this.#isReading = false;
  }

  async #read() {
    try {
      this.#show(await this.#allocation.viewers(SHOWN));
    } catch {
      // The panel says what is wrong with the server; what was shown is old and goes.
      this.#show({ viewerCount: null, viewers: [] });
    }
  }

  #show({ viewerCount, viewers, maxUplinkKbps = null }) {
    write(this.#note, noteOn({ viewerCount, viewers, maxUplinkKbps }));
    const lines = viewers.flatMap((viewer) => (viewer.connection ? [{ id: viewer.id, ...linesOn(viewer.connection) }] : []));
    while (this.#list.children.length > lines.length) this.#list.lastElementChild.remove();
    lines.forEach((line, position) => {
      if (!this.#list.children[position]) this.#list.append(emptyLine());
      const item = this.#list.children[position];
      item.dataset.viewer = line.id;
      const [rates, reason, cameras] = item.querySelectorAll("span");
      write(rates, line.rates);
      write(reason, line.reason);
      write(cameras, line.cameras);
    });
  }
}

function emptyLine() {
  const item = document.createElement("li");
  for (const parts of [["rates", "reason"], ["cameras"]]) {
    const line = document.createElement("p");
    line.className = "outcome";
    parts.forEach((part, index) => {
      const span = document.createElement("span");
      span.className = part;
      line.append(...(index > 0 ? [" ", span] : [span]));
    });
    item.append(line);
  }
  return item;
}

// How many are there, and how many of them are shown.
export function noteOn({ viewerCount, viewers, maxUplinkKbps }) {
  if (viewerCount === null) return "Not known.";
  if (viewerCount === 0) return "Nobody watches.";
  const most = maxUplinkKbps === null ? "" : ` All together may take ${format.bitrate(maxUplinkKbps * 1_000)}.`;
  if (viewers.length === 0) return `What they carry is not known yet.${most}`;
  const shown = viewers.length < viewerCount ? `The ${viewers.length} thinnest of ${format.count(viewerCount)}.` : "";
  return `${shown}${most}`.trim();
}

// One connection in words.
export function linesOn(connection) {
  const { availableOutgoingBitrate, confirmed, sendBitrate, currentRoundTripTime, fractionLost, queueDelay, pacerQueueDelay, cameras } = connection;
  const milliseconds = (seconds) => format.milliseconds(seconds === null || seconds === undefined ? null : seconds * 1_000);
  const state = confirmed ? "" : "starting, ";
  return {
    rates: `${format.bitrate(sendBitrate)} of ${format.bitrate(availableOutgoingBitrate)}`,
    reason: `${state}round trip ${milliseconds(currentRoundTripTime)}, loss ${format.percent(fractionLost)}, queues ${milliseconds(queueDelay)} there, ${milliseconds(pacerQueueDelay)} here`,
    cameras: cameras.map(camera).join("; "),
  };
}

function camera({ name, layer, paused, held, targetBitrate }) {
  if (paused) return `${name} paused`;
  if (held) return `${name} held, too little for it`;
  const size = layer === null || layer === undefined ? "" : `, layer ${layer}`;
  return `${name} ${format.bitrate(targetBitrate)}${size}`;
}
