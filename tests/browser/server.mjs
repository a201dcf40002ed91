// A lenscast server of a test's own, on ports that the system chooses.
//
// The binary is LENSCAST_BIN, or the one that `cargo build` makes.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

const ROOT = path.resolve(import.meta.dirname, "../..");
const BINARY = path.resolve(ROOT, process.env.LENSCAST_BIN ?? "target/debug/lenscast");

const START_MS = 20_000;
const STOP_MS = 15_000;
// What the log's end may hold, to be printed when something fails.
const LOG_LINES = 200;

export class Server {
  #directory;
  #toml;
  #child = null;
  #listen;

  constructor(address) {
    this.#listen = { http: `${address}:0`, webrtc: `${address}:0` };
  }

  // `toml`: the configuration, without addresses. Ready when this resolves; `stop` ends it. `files` are put beside the
  // configuration: it may name them. It listens on `address`.
  static async start(toml, files = {}, address = "127.0.0.1") {
    const server = new Server(address);
    server.#directory = await mkdtemp(path.join(tmpdir(), "lenscast-browser-"));
    server.#toml = path.join(server.#directory, "lenscast.toml");
    server.log = [];
    for (const [name, content] of Object.entries({ ...files, "lenscast.toml": toml })) await server.put(name, content);
    await server.#spawn();
    return server;
  }

  // Writes a file into the server's working directory, whole or not at all.
  async put(name, content) {
    const file = path.join(this.#directory, name);
    await writeFile(`${file}.part`, content);
    await rename(`${file}.part`, file);
  }

  // The page's address, with a slash at the end.
  get url() {
    return `http://${this.#listen.http}/`;
  }

  async stop() {
    await this.#end("SIGTERM");
    await rm(this.#directory, { recursive: true, force: true });
  }

  // Ends it: "SIGTERM" in good order, "SIGKILL" without a goodbye.
  end(signal) {
    return this.#end(signal);
  }

  // Starts it again on the ports it had.
  restart() {
    return this.#spawn();
  }

  // Has it read its configuration again.
  reload() {
    this.#child.kill("SIGHUP");
  }

  // Halts it without its noticing, and lets it go on.
  halt() {
    this.#child.kill("SIGSTOP");
  }

  goOn() {
    this.#child.kill("SIGCONT");
  }

  // A JSON document of the API.
  async api(address, headers = {}) {
    const response = await fetch(new URL(`/api/v1/${address}`, this.url), { headers });
    if (!response.ok) throw new Error(`GET ${address}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  // Changes the allocation, as somebody else.
  async change(changes) {
    const request = { method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify(changes) };
    const response = await fetch(new URL("/api/v1/allocation", this.url), request);
    if (!response.ok) throw new Error(`PUT allocation: ${response.status} ${await response.text()}`);
  }

  camera(name) {
    return this.api(`cameras/${name}`);
  }

  // Asks for a camera until it is as wanted.
  async cameraThat(name, isWanted, timeout = 15_000) {
    for (const deadline = Date.now() + timeout; ; ) {
      const camera = await this.camera(name);
      if (isWanted(camera)) return camera;
      if (Date.now() > deadline) throw new Error(`not ${isWanted} within ${timeout} ms: ${JSON.stringify(camera)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async #spawn() {
    const { http, webrtc } = this.#listen;
    const args = ["-c", this.#toml, "--http-listen", http, "--webrtc-listen", webrtc, "--log-format", "text"];
    const child = spawn(BINARY, args, { cwd: this.#directory, stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    child.on("error", (error) => this.log.push(String(error)));
    const announced = new Promise((resolve) => {
      createInterface({ input: child.stdout }).on("line", (line) => {
        const found = /^lenscast: watch at http:\/\/(\S+)\/$/.exec(line);
        if (found) resolve(found[1]);
      });
    });
    const listening = new Promise((resolve) => {
      createInterface({ input: child.stderr }).on("line", (line) => {
        this.log.push(line);
        if (this.log.length > LOG_LINES) this.log.shift();
        const found = /listening.* udp=\[([^\],]+)/.exec(line.replaceAll(/\x1b\[[0-9;]*m/g, ""));
        if (found) resolve(found[1]);
      });
    });
    const ended = once(child, "close").then(([code, signal]) => {
      throw new Error(`the server ended (${signal ?? code}):\n${this.log.join("\n")}`);
    });
    ended.catch(() => {});
    const [httpAt, webrtcAt] = await Promise.race([Promise.all([announced, listening]), ended, timeout(START_MS)]);
    this.#listen = { http: httpAt, webrtc: webrtcAt };
  }

  async #end(signal) {
    const child = this.#child;
    if (child.exitCode !== null || child.signalCode !== null) return;
    // A halted process would get no other signal.
    child.kill("SIGCONT");
    const closed = once(child, "close");
    child.kill(signal);
    await Promise.race([closed, timeout(STOP_MS)]).catch(async (error) => {
      child.kill("SIGKILL");
      await closed;
      throw new Error(`the server did not end at ${signal}: ${error.message}\n${this.log.join("\n")}`);
    });
  }
}

function timeout(ms) {
  return new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`not within ${ms} ms`)), ms).unref();
  });
}
