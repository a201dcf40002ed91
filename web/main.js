// The page: puts its parts together.

import { Allocation } from "./allocation.js";
import { AllocationPanel } from "./allocation_panel.js";
import { Api } from "./api.js";
import { CameraList } from "./camera_list.js";
import { ServerClock } from "./clock.js";
import { Grid } from "./grid.js";
import { SharedSessions } from "./shared_session.js";
import { TokenDialog } from "./token_dialog.js";

const part = (name) => document.querySelector(`[data-page=${name}]`);

const api = new Api();
const list = new CameraList(api);
const allocation = new Allocation(api);
const dialog = new TokenDialog(part("token"));
const sharing = new SharedSessions();
const grid = new Grid(part("cameras"), { api, serverClock: new ServerClock(), sharing, template: part("tile") });

new AllocationPanel({
  panel: part("allocation"),
  button: part("allocation-button"),
  template: part("share"),
  allocation,
});

list.addEventListener("cameras", () => {
  dialog.close();
  grid.describe(list.cameras);
  showList();
});

list.addEventListener("problem", () => {
  if (list.problem.status === 401) dialog.ask({ refused: api.token !== null });
  showList();
});

dialog.addEventListener("token", ({ detail }) => {
  api.token = detail;
  list.askNow();
  allocation.beginAnew();
});

allocation.addEventListener("change", () => {
  if (allocation.answered) grid.allocate(allocation.answered);
});

grid.addEventListener("away", () => {
  list.paused = grid.away;
  allocation.paused = grid.away;
});

document.addEventListener("visibilitychange", () => {
  allocation.hidden = document.hidden;
});
allocation.hidden = document.hidden;

const announced = new Map();
grid.addEventListener("state", ({ detail: tile }) => {
  // Its pictures may have ceased because it is not to send any.
  if (tile.player.state.state === "reconnecting") allocation.askNow();
  showSummary();
  announce(tile);
});

part("host").textContent = location.host;
if ("RTCPeerConnection" in globalThis) {
  list.run();
  allocation.run();
} else showBanner("This browser cannot play live video: WebRTC is missing or switched off.");

// For tests: what the players know, to read only.
Object.defineProperty(window, "lenscast", {
  value: Object.freeze({ players: () => grid.tiles.map(({ player }) => player.view) }),
});

function showList() {
  const { cameras, problem } = list;
  if (problem && problem.status !== 401) {
    const state = problem.status === 0 ? "The server does not answer." : `The server refuses: ${problem.message}`;
    showBanner(`${state} Trying again…`);
  } else {
    showBanner(cameras?.length === 0 ? "No camera is configured." : "");
  }
  document.body.classList.toggle("loaded", cameras !== null || problem !== null);
  showSummary();
}

function showBanner(text) {
  part("banner").hidden = text === "";
  part("banner").textContent = text;
}

function showSummary() {
  const states = grid.tiles.map(({ player }) => player.state.state);
  const live = states.filter((state) => state === "live").length;
  part("summary").textContent = states.length === 0 ? "" : `${live} of ${states.length} live`;
}

// For people who do not see the page: what becomes of a camera, but not each step on its way.
function announce({ name, player }) {
  const { state, reason } = player.state;
  if (!["live", "degraded", "stalled", "failed", "reconnecting"].includes(state) || announced.get(name) === state) return;
  announced.set(name, state);
  part("announcer").textContent = [`${name} is ${state}.`, reason].filter(Boolean).join(" ");
}
