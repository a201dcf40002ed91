// The header Link (RFC 8288 §3): targets with their parameters.

// `text` is the header's value, several headers joined by commas as fetch gives them. What is malformed is left out: a
// server's extra links must not keep anybody from watching.
export function parseLinks(text) {
  const links = [];
  const reader = new Reader(text ?? "");
  while (!reader.atEnd) {
    const link = readLink(reader);
    if (link) links.push(link);
    reader.skipPast(",");
  }
  return links;
}

// STUN and TURN servers as RTCPeerConnection wants them (RFC 9725 §4.6).
export function iceServers(links) {
  const servers = links.filter(({ parameters }) => (parameters.rel ?? "").split(/\s+/).includes("ice-server"));
  return servers.map(({ target, parameters: { username, credential } }) =>
    username === undefined ? { urls: target } : { urls: target, username, credential: credential ?? "" });
}

function readLink(reader) {
  const target = reader.take(/\s*<([^>]*)>/y);
  if (!target) return null;
  const parameters = {};
  for (;;) {
    const name = reader.take(/\s*;\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*/y);
    if (!name) break;
    const value = reader.take(/=\s*"((?:[^"\\]|\\.)*)"/y)?.replace(/\\(.)/g, "$1") ?? reader.take(/=\s*([^\s",;]+)/y) ?? "";
    // The first of each counts (RFC 8288 §3.3).
    parameters[name.toLowerCase()] ??= value;
  }
  return { target, parameters };
}

class Reader {
  #text;
  #at = 0;

  constructor(text) {
    this.#text = text;
  }

  get atEnd() {
    return this.#at >= this.#text.length;
  }

  // What the sticky `pattern`'s first group matches here, moved past; null if it does not match.
  take(pattern) {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (!match) return null;
    this.#at = pattern.lastIndex;
    return match[1];
  }

  // Moves behind the next `mark` that is not in quotes.
  skipPast(mark) {
    let quoted = false;
    for (; !this.atEnd; this.#at++) {
      const character = this.#text[this.#at];
      if (quoted && character === "\\") this.#at++;
      else if (character === '"') quoted = !quoted;
      else if (character === mark && !quoted) break;
    }
    this.#at++;
  }
}
