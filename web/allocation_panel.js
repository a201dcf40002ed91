// The panel that shares out the bandwidth: the total, and each camera's weight and bounds, with what came of it; and what
// viewers' connections carry, which is shared by the same weights.
//
// A control shows what the server says, or what is wanted of it, but never moves while it is in somebody's hand.

import { ConnectionList } from "./connections.js";
import { partsOf, set, write } from "./dom.js";
import * as format from "./format.js";
import { LAST_POSITION, positionOf, weightAt } from "./weight.js";

const OPEN_KEY = "lenscast.allocation";

// Of a total that nobody has set yet.
const MIN_TOTAL_KBPS = 100;

// The slider's end, at most: beyond that a hand could not set what is common. More can be typed.
const MAX_SCALE_KBPS = 100_000;

// What is not for pictures is said to be much from this part of the total on.
const MUCH = 0.2;

const MATTER = "Weights matter only once the cameras together want more than the total, or than a viewer’s connection carries.";

const LIMITS = { none: "not limited", bandwidth: "limited by bandwidth", cpu: "limited by CPU", other: "limited by its encoder" };

export class AllocationPanel {
  #panel;
  #button;
  #template;
  #allocation;
  #parts;
  #total;
  #connections;
  // By name, in the order of the page.
  #rows = new Map();
  // The last total that was not "no limit".
  #lastTotal = null;

  constructor({ panel, button, template, allocation }) {
    this.#panel = panel;
    this.#button = button;
    this.#template = template;
    this.#allocation = allocation;
    this.#parts = partsOf(panel);
    this.#connections = new ConnectionList(allocation);
    panel.append(this.#connections.element);
    const { equal, close, "total-range": range, "total-number": number, "no-limit": noLimit } = this.#parts;
    const setTotal = (totalKbps) => allocation.change({ totalKbps });
    this.#total = [new Slider(range, setTotal), new NumberField(number, (value) => setTotal(Math.round(value)))];
    noLimit.addEventListener("change", () => setTotal(noLimit.checked ? null : this.#proposedTotal()));
    equal.addEventListener("click", () => this.#equalize());
    button.addEventListener("click", () => this.#toggle(panel.hidden));
    close.addEventListener("click", () => this.#leave());
    panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      this.#leave();
    });
    allocation.addEventListener("change", () => this.#show());
    allocation.addEventListener("problem", () => this.#showProblem());
    this.#toggle(wasOpen());
  }

  #toggle(open) {
    this.#panel.hidden = !open;
    this.#button.setAttribute("aria-expanded", open);
    rememberOpen(open);
    this.#allocation.closely = open;
    this.#connections.shown = open;
    this.#show();
  }

  // To where one came from, for those who use the keyboard.
  #leave() {
    this.#toggle(false);
    this.#button.focus();
  }

  // What is off stays off, unless everything is.
  #equalize() {
    const cameras = this.#allocation.view?.cameras ?? [];
    const on = cameras.filter(({ weight }) => weight > 0);
    const equal = (on.length > 0 ? on : cameras).map(({ name }) => [name, { weight: 1 }]);
    if (equal.length > 0) this.#allocation.change({ cameras: Object.fromEntries(equal) });
  }

  #proposedTotal() {
    const targets = sum(this.#allocation.view.cameras, "targetKbps");
    return this.#lastTotal ?? Math.min(MAX_SCALE_KBPS, Math.max(MIN_TOTAL_KBPS, Math.round(targets)));
  }

  #showProblem() {
    const text = trouble(this.#allocation);
    this.#parts.message.hidden = text === "";
    write(this.#parts.message, text);
  }

  // Nothing is laid out for nobody.
  #show() {
    const { view } = this.#allocation;
    if (!view || this.#panel.hidden) return;
    this.#parts.total.disabled = this.#parts.equal.disabled = false;
    this.#showTotal(view);
    this.#showRows(view);
  }

  #showTotal(view) {
    const { totalKbps, cameras } = view;
    this.#lastTotal = totalKbps ?? this.#lastTotal;
    const { "total-range": range, "total-number": number, "no-limit": noLimit } = this.#parts;
    const { max, step } = totalScale(view);
    Object.assign(range, { min: step, max, step });
    range.disabled = number.disabled = totalKbps === null;
    noLimit.checked = totalKbps === null;
    for (const control of this.#total) control.show(totalKbps ?? max);
    range.setAttribute("aria-valuetext", totalKbps === null ? "no limit" : format.bitrate(totalKbps * 1_000));
    if (totalKbps === null) number.value = "";
    const { brief, more } = noteOn({ totalKbps, ...demand(view) }, cameras);
    write(this.#parts["note-brief"], brief);
    write(this.#parts["note-more"], more);
  }

  #showRows(view) {
    const { cameras } = view;
    for (const [name, row] of this.#rows) {
      if (cameras.some((camera) => camera.name === name)) continue;
      row.element.remove();
      this.#rows.delete(name);
    }
    const parts = shares(view);
    cameras.forEach((camera, position) => {
      const { name } = camera;
      if (!this.#rows.has(name)) this.#rows.set(name, new Row(this.#template, name, (share) => this.#allocation.change({ cameras: { [name]: share } })));
      const row = this.#rows.get(name);
      const there = this.#parts.shares.children[position];
      // Moving an element takes the focus from it.
      if (there !== row.element) this.#parts.shares.insertBefore(row.element, there ?? null);
      row.show(camera, parts.get(name));
    });
  }
}

// One camera's controls.
class Row {
  #parts;
  #weight;
  #bounds;

  // `change` is called with what is to be different: { weight }, { minKbps } or { maxKbps }.
  constructor(template, name, change) {
    this.element = template.content.firstElementChild.cloneNode(true);
    this.element.dataset.share = name;
    this.#parts = partsOf(this.element);
    const { "weight-range": range, "weight-number": number, min, max } = this.#parts;
    this.#parts.name.textContent = name;
    range.max = LAST_POSITION;
    range.setAttribute("aria-label", `Weight of ${name}`);
    number.setAttribute("aria-label", `Weight of ${name}, as a number`);
    min.setAttribute("aria-label", `Minimum of ${name} in kb/s`);
    max.setAttribute("aria-label", `Maximum of ${name} in kb/s`);
    this.#weight = [new Slider(range, (position) => change({ weight: weightAt(position) })), new NumberField(number, (weight) => change({ weight }))];
    this.#bounds = [
      new NumberField(min, (kbps) => change({ minKbps: Math.round(kbps) })),
      new NumberField(max, (kbps) => change({ maxKbps: Math.round(kbps) })),
    ];
  }

  // `part` is its part of what is shared, 0 to 1, or null.
  show(camera, part) {
    const { weight, minKbps, maxKbps } = camera;
    const share = weight === 0 ? "off" : part === null ? "" : format.percent(part);
    const { "weight-range": range, part: place, rates, reason } = this.#parts;
    this.#weight[0].show(positionOf(weight));
    this.#weight[1].show(weight);
    this.#bounds[0].show(minKbps);
    this.#bounds[1].show(maxKbps);
    write(place, share);
    const spoken = weight === 0 ? "off" : [weight, share].filter((word) => word !== "").join(", ");
    if (range.getAttribute("aria-valuetext") !== spoken) range.setAttribute("aria-valuetext", spoken);
    write(rates, `${kbps(camera.targetKbps)} → ${kbps(camera.actualKbps)} kb/s`);
    write(reason, outcome(camera));
    set(this.element.dataset, "state", weight > 0 ? camera.state : "off");
  }
}

// A slider: what it says goes out while it moves.
class Slider {
  #input;
  #held = false;

  constructor(input, change) {
    this.#input = input;
    const release = () => {
      this.#held = false;
    };
    input.addEventListener("pointerdown", () => {
      this.#held = true;
      // Wherever the finger leaves it.
      for (const type of ["pointerup", "pointercancel"]) window.addEventListener(type, release, { once: true });
    });
    input.addEventListener("blur", release);
    input.addEventListener("input", () => change(input.valueAsNumber));
  }

  show(value) {
    if (!this.#held && this.#input.valueAsNumber !== value) this.#input.value = value;
  }
}

// A number: what it says goes out when it is complete.
class NumberField {
  #input;
  #edited = false;
  #shown = null;

  constructor(input, change) {
    this.#input = input;
    input.addEventListener("input", () => {
      this.#edited = true;
    });
    input.addEventListener("keydown", ({ key }) => {
      if (key !== "Escape" || !this.#edited) return;
      this.#edited = false;
      input.value = this.#shown;
    });
    input.addEventListener("change", () => {
      // Some browsers tell of what was typed even after it was taken back.
      if (!this.#edited) return;
      this.#edited = false;
      const value = input.valueAsNumber;
      if (Number.isFinite(value)) change(value);
      else input.value = this.#shown;
    });
    input.addEventListener("blur", () => {
      this.#edited = false;
    });
  }

  show(value) {
    this.#shown = value;
    if (!this.#edited && this.#input.valueAsNumber !== value) this.#input.value = value;
  }
}

// What became of a camera's claim, in words.
export function outcome({ weight, minKbps, state, qualityLimitationReason, framesPerSecond, frameWidth, frameHeight }) {
  if (weight === 0) return "off";
  if (state === "paused") return `paused: its minimum of ${minKbps} kb/s, with headers on top, does not fit`;
  if (state === "inactive") return "goes to nobody";
  const size = frameWidth ? `, ${format.resolution(frameWidth, frameHeight)}` : "";
  const rate = framesPerSecond > 0 ? `, ${format.rate(framesPerSecond)}` : "";
  return `${LIMITS[qualityLimitationReason] ?? qualityLimitationReason}${size}${rate}`;
}

// How much all that are watched would take, headers and sound included, and these by themselves, in kb/s.
export function demand({ cameras, overheadKbps = 0, audioKbps = 0 }) {
  const watched = cameras.filter(({ weight, state }) => weight > 0 && state !== "inactive");
  return { wantedKbps: sum(watched, "maxKbps") + overheadKbps + audioKbps, overheadKbps, audioKbps };
}

// What the total comes to: `brief`, and `more` where there is room for it.
export function noteOn({ totalKbps, wantedKbps, overheadKbps = 0, audioKbps = 0 }, cameras) {
  if (totalKbps === null) return { brief: "No total is set: every camera may send its maximum.", more: MATTER };
  if (cameras.every(({ state }) => state === "inactive")) return { brief: "Nobody watches.", more: "" };
  const apart = [overheadKbps > 0 && `${kbps(overheadKbps)} kb/s for headers`, audioKbps > 0 && `${kbps(audioKbps)} kb/s for sound`].filter(Boolean);
  const setAside = apart.length > 0 ? `${apart.join(" and ")}.` : "";
  const isMuch = overheadKbps + audioKbps >= MUCH * totalKbps ? "That is much of so small a total." : "";
  const isEnough = wantedKbps <= totalKbps;
  return {
    brief: sentences(isEnough ? "Enough for all maxima." : `${format.bitrate(sum(cameras, "actualKbps") * 1_000)} sent.`, setAside),
    more: sentences(isMuch, isEnough ? MATTER : ""),
  };
}

// Each camera's part of what is shared, 0 to 1, by name: what it is to send, of what all are to. Null where nothing is shared
// with it: there is no total, or nobody watches it.
export function shares({ totalKbps, cameras }) {
  const all = sum(cameras, "targetKbps");
  const shareOf = ({ state, targetKbps }) => (totalKbps === null || state === "inactive" ? null : all > 0 ? targetKbps / all : 0);
  return new Map(cameras.map((camera) => [camera.name, shareOf(camera)]));
}

// What is wrong, in words; empty if nothing is.
export function trouble({ problem, lost, answered }) {
  if (problem) return `Not changed: ${problem.message}`;
  // The page asks for a token by itself.
  if (!lost || lost.status === 401) return "";
  return `${answered ? "Not up to date" : "Not known"}: ${lost.message}`;
}

// A slider's end and step for totals: somewhat above all that the cameras could use, within reason.
export function totalScale({ totalKbps, cameras, overheadKbps = 0, audioKbps = 0 }) {
  const usable = Math.min(MAX_SCALE_KBPS, 1.2 * (sum(cameras, "maxKbps") + overheadKbps + audioKbps));
  const most = Math.max(totalKbps ?? 0, usable, 10 * MIN_TOTAL_KBPS);
  const step = most <= 5_000 ? 10 : most <= 50_000 ? 100 : 1_000;
  return { max: Math.ceil(most / step) * step, step };
}

function sum(cameras, name) {
  return cameras.reduce((sum, camera) => sum + (camera[name] ?? 0), 0);
}

function sentences(...texts) {
  return texts.filter((text) => text !== "").join(" ");
}

function kbps(value) {
  return format.count(Math.round(value ?? 0));
}

function wasOpen() {
  try {
    return localStorage.getItem(OPEN_KEY) === "open";
  } catch {
    return false;
  }
}

// A browser may refuse storage; the panel is then closed when the page is loaded again.
function rememberOpen(open) {
  try {
    if (open) localStorage.setItem(OPEN_KEY, "open");
    else localStorage.removeItem(OPEN_KEY);
  } catch {
    // See above.
  }
}
