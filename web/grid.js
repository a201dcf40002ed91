// All cameras on the page, one of them large if the address says so (#name).
//
// Only what can be seen is played: a tile that is scrolled away, and a tab in the background, pause after a moment.

import { layOut } from "./layout.js";
import { Tile } from "./tile.js";

// Out of sight for this long, a camera is paused: not at once, since people scroll up and down and switch tabs.
const UNSEEN_MS = 2_000;
const HIDDEN_MS = 20_000;

const TICK_MS = 250;

export class Grid extends EventTarget {
  #element;
  #make;
  // By name, in the order of the page.
  #tiles = new Map();
  #allocations = new Map();
  // Those in sight, and timers of those that have just left it.
  #seen = new Set();
  #leaving = new Map();
  #away = false;
  #observer;
  // How many tiles the layout is for, and which was large.
  #laidOut = 0;
  #columns = 0;
  #tileWidth = 0;
  #wasLarge = null;

  // Fires `state` with the tile as `detail` when the state of one has changed, and `away` when the tab has been in the
  // background for long, or is back.
  constructor(element, { api, serverClock, sharing, template }) {
    super();
    this.#element = element;
    this.#make = (camera) => new Tile({ api, serverClock, sharing, camera, template });
    this.#observer = new IntersectionObserver((entries) => this.#handleSight(entries), { rootMargin: "100px" });
    new ResizeObserver(() => this.#layOut()).observe(element.parentElement);
    window.addEventListener("hashchange", () => this.#select());
    document.addEventListener("keydown", (event) => this.#handleKey(event));
    this.#watchTab();
    setInterval(() => this.#tick(), TICK_MS);
  }

  get tiles() {
    return [...this.#tiles.values()];
  }

  // True while nobody has looked at this tab for a while.
  get away() {
    return this.#away;
  }

  // The cameras as the API describes them, in its order.
  describe(cameras) {
    for (const [name, tile] of this.#tiles) {
      if (!cameras.some((camera) => camera.name === name)) this.#remove(name, tile);
    }
    const added = cameras.filter((camera) => !this.#tiles.has(camera.name));
    for (const camera of cameras) this.#tiles.get(camera.name)?.describe(camera);
    for (const camera of added) this.#add(camera);
    const order = cameras.map(({ name }) => this.#tiles.get(name));
    this.#tiles = new Map(order.map((tile) => [tile.name, tile]));
    // Moving a video interrupts it: only what is not in its place is moved.
    order.forEach((tile, position) => {
      const there = this.#element.children[position];
      if (there !== tile.element) this.#element.insertBefore(tile.element, there ?? null);
    });
    if (added.length > 0 || this.#element.childElementCount !== this.#laidOut) this.#select();
  }

  // What each camera may send, as the API describes it.
  allocate({ cameras }) {
    this.#allocations = new Map(cameras.map((camera) => [camera.name, camera]));
    for (const tile of this.#tiles.values()) tile.allocate(this.#allocations.get(tile.name) ?? null);
  }

  #add(camera) {
    const tile = this.#make(camera);
    const tell = () => this.dispatchEvent(new CustomEvent("state", { detail: tile }));
    tile.addEventListener("open", () => this.#open(tile === this.#large ? null : tile));
    tile.addEventListener("state", tell);
    tile.allocate(this.#allocations.get(camera.name) ?? null);
    this.#tiles.set(camera.name, tile);
    this.#element.append(tile.element);
    this.#observer.observe(tile.element);
    tell();
  }

  #remove(name, tile) {
    this.#observer.unobserve(tile.element);
    clearTimeout(this.#leaving.get(tile));
    this.#leaving.delete(tile);
    this.#seen.delete(tile);
    this.#tiles.delete(name);
    tile.remove();
  }

  get #large() {
    return this.#tiles.get(nameInAddress()) ?? null;
  }

  // The address leads: so the browser's own way back works, and a camera can be linked to.
  #open(tile) {
    if (tile) location.hash = encodeURIComponent(tile.name);
    else history.pushState(null, "", location.pathname + location.search);
    this.#select();
  }

  #select() {
    const large = this.#large;
    for (const tile of this.#tiles.values()) tile.large = tile === large;
    this.#element.classList.toggle("with-large", large !== null);
    document.title = large ? `${large.name} – lenscast` : "lenscast";
    this.#layOut();
    // Going back leads to where one came from.
    (large ?? this.#wasLarge)?.element.scrollIntoView({ block: "nearest" });
    this.#wasLarge = large;
  }

  #layOut() {
    const count = this.#element.childElementCount;
    const changed = count !== this.#laidOut;
    this.#laidOut = count;
    if (count === 0) return;
    const style = getComputedStyle(this.#element);
    const sum = (...names) => names.reduce((sum, name) => sum + parseFloat(style[name]), 0);
    const first = this.#element.firstElementChild;
    const heightOf = (element) => element.getBoundingClientRect().height;
    const foot = heightOf(first) - heightOf(first.querySelector("[data-part=stage]"));
    const top = this.#element.getBoundingClientRect().top + window.scrollY;
    const room = {
      width: this.#element.parentElement.clientWidth - sum("paddingLeft", "paddingRight"),
      height: window.innerHeight - top - sum("paddingTop", "paddingBottom"),
      foot,
    };
    const { columns, tileWidth } = layOut(count, room);
    // What stands below a picture is measured to a fraction of a pixel that depends on the width which follows from it: one
    // pixel more is no reason to lay the page out again, and then again with one less.
    if (!changed && columns === this.#columns && tileWidth === this.#tileWidth + 1) return;
    [this.#columns, this.#tileWidth] = [columns, tileWidth];
    this.#element.style.setProperty("--columns", columns);
    this.#element.style.setProperty("--tile-width", `${tileWidth}px`);
    this.#element.style.setProperty("--count", count);
  }

  #handleKey(event) {
    const large = this.#large;
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (!large || event.target.matches?.("input, select")) return;
    if (event.key === "Escape" && !document.fullscreenElement) this.#open(null);
    else if (event.key === "ArrowRight") this.#step(large, 1);
    else if (event.key === "ArrowLeft") this.#step(large, -1);
    else if (event.key === "f") large.toggleFullscreen();
    else return;
    event.preventDefault();
  }

  #step(from, by) {
    const tiles = this.tiles;
    const next = tiles[(tiles.indexOf(from) + by + tiles.length) % tiles.length];
    this.#open(next);
    next.focus();
  }

  #handleSight(entries) {
    for (const { target, isIntersecting } of entries) {
      const tile = this.#tiles.get(target.dataset.camera);
      if (!tile) continue;
      clearTimeout(this.#leaving.get(tile));
      this.#leaving.delete(tile);
      if (isIntersecting) this.#see(tile);
      else if (this.#seen.has(tile)) this.#leaving.set(tile, setTimeout(() => this.#lose(tile), UNSEEN_MS));
    }
  }

  #see(tile) {
    this.#seen.add(tile);
    if (!this.#away) tile.player.play();
  }

  #lose(tile) {
    this.#leaving.delete(tile);
    this.#seen.delete(tile);
    tile.player.pause();
  }

  #watchTab() {
    let timer;
    document.addEventListener("visibilitychange", () => {
      clearTimeout(timer);
      if (!document.hidden) this.#setAway(false);
      else timer = setTimeout(() => this.#setAway(!document.pictureInPictureElement), HIDDEN_MS);
    });
    // What is left behind is taken leave of; a browser may keep the page and show it again.
    window.addEventListener("pagehide", () => this.#setAway(true));
    window.addEventListener("pageshow", () => this.#setAway(false));
  }

  #setAway(away) {
    if (this.#away === away) return;
    this.#away = away;
    for (const tile of this.#seen) {
      if (away) tile.player.pause();
      else tile.player.play();
    }
    this.dispatchEvent(new Event("away"));
  }

  #tick() {
    const now = performance.now();
    for (const tile of this.#seen) tile.player.tick(now);
  }
}

function nameInAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}
