// A browser behind a link of its own: a network namespace of Linux, a cable to it, and a queue at this end that carries so
// much and no more.
//
// It takes `ip`, `tc` and the right to use them, which root has. LENSCAST_SKIP_NAMESPACES=1 skips what needs one, as in
// tests/pipes.rs.

import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

// The reason to skip, or false.
export const skip = process.env.LENSCAST_SKIP_NAMESPACES === "1" && "LENSCAST_SKIP_NAMESPACES is set";

// What waits in the link's queue before it drops: RFC 8867 §4.3's default for a bottleneck.
const QUEUE_MS = 300;

// What a link lets through at once, in bytes: as little as a timer of 250 Hz needs for 4 Mb/s (tc-tbf(8)), twice over.
const BURST = 5_000;

let count = 0;

export class Link {
  #name;
  #ours;
  #directory;
  // This end's address: a server that listens here is reached from the other end over the link only.
  address;
  // A browser's program that runs at the other end.
  executable;

  constructor(browser) {
    const number = count++;
    this.#name = `lenscast-${process.pid}-${number}`;
    const theirs = `lcb${process.pid}x${number}`;
    this.#ours = `lca${process.pid}x${number}`;
    // Of the block for tests of devices (RFC 2544), in the half that tests/support/namespace.rs does not use.
    const net = `198.19.${process.pid % 256}`;
    this.address = `${net}.${number * 4 + 1}`;
    ip("netns", "add", this.#name);
    ip("-n", this.#name, "link", "set", "lo", "up");
    ip("link", "add", this.#ours, "type", "veth", "peer", "name", theirs, "netns", this.#name);
    ip("address", "add", `${this.address}/30`, "dev", this.#ours);
    ip("link", "set", this.#ours, "up");
    ip("-n", this.#name, "address", "add", `${net}.${number * 4 + 2}/30`, "dev", theirs);
    // An address of IPv6 that comes a second later would be a change of network to Chromium, which ends all it has under way.
    ip("-n", this.#name, "link", "set", theirs, "addrgenmode", "none");
    ip("-n", this.#name, "link", "set", theirs, "up");
    // A program that starts browsers gives its arguments first, so that `ip` itself cannot be it.
    this.#directory = mkdtempSync(path.join(tmpdir(), "lenscast-link-"));
    this.executable = path.join(this.#directory, "browser");
    writeFileSync(this.executable, `#!/bin/sh\nexec ip netns exec ${this.#name} ${JSON.stringify(browser)} "$@"\n`);
    chmodSync(this.executable, 0o755);
  }

  // From now on it carries this much towards the browser.
  limit(kbps) {
    tc("qdisc", "replace", "dev", this.#ours, "root", "tbf", "rate", `${kbps}kbit`, "burst", String(BURST), "latency", `${QUEUE_MS}ms`);
  }

  remove() {
    // The cable goes with the namespace.
    ip("netns", "delete", this.#name);
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

function ip(...args) {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "pipe"] });
}

function tc(...args) {
  execFileSync("tc", args, { stdio: ["ignore", "ignore", "pipe"] });
}
