// How much of the machine other processes took while a test ran: figures that depend on having a machine to oneself are not
// worth judging when one has not. Linux only; elsewhere nothing is known and everything is judged.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";

// Other processes may take this much of the machine before figures about time say more of them than of us.
const QUIET = 0.2;

// Fails if `holds` does not, unless other processes kept the machine busy: then says so. What we use ourselves excuses nothing.
export function judge(t, cpu, holds, message) {
  if (holds) return;
  const { others, busy } = cpu.shares;
  const percent = (share) => `${(share * 100).toFixed(1)} %`;
  assert.ok(others > QUIET, `${message}; the machine was busy for ${percent(busy)}, with others for ${percent(others)}`);
  t.diagnostic(`NOT JUDGED: ${message} (${percent(busy)} of the machine was in use, ${percent(others)} by other processes)`);
}

export class CpuWatch {
  #start = read();

  // The shares of all cores, 0 to 1, that were used since: by processes which are not ours, and by all.
  get shares() {
    const [from, to] = [this.#start, read()];
    if (!from || !to || to.all <= from.all) return { others: 0, busy: 0 };
    const [all, busy] = [to.all - from.all, to.busy - from.busy];
    let own = 0;
    for (const [pid, ticks] of to.own) own += ticks - (from.own.get(pid) ?? 0);
    return { others: Math.max(0, busy - own) / all, busy: busy / all };
  }
}

function read() {
  try {
    const [, ...ticks] = readFileSync("/proc/stat", "utf8").split("\n", 1)[0].split(/\s+/);
    const [user, nice, system, idle, iowait, irq, softirq, steal] = ticks.map(Number);
    const busy = user + nice + system + irq + softirq + steal;
    return { busy, all: busy + idle + iowait, own: ownTicks() };
  } catch {
    return null;
  }
}

// Ticks of this process and all its descendants, by process id (proc(5): /proc/pid/stat).
function ownTicks() {
  const processes = new Map();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number)) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      // The second field is the name in parentheses, and may hold anything.
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      processes.set(pid, { parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) });
    } catch {
      // It has ended in between.
    }
  }
  const isOurs = (pid) => pid === process.pid || (processes.has(pid) && isOurs(processes.get(pid).parent));
  return new Map([...processes].filter(([pid]) => isOurs(pid)).map(([pid, { ticks }]) => [pid, ticks]));
}
