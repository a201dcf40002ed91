// Why a request failed: what the server says of it (RFC 9457), or that it could not be reached.
//
// `status` is HTTP's, or 0 without an answer. `retryAfterMs` is what Retry-After asks for, or null.

export class Problem extends Error {
  name = "Problem";

  constructor(status, detail, { retryAfterMs = null, cause } = {}) {
    super(detail, { cause });
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }

  // Of an answer that is not the wanted one. Its body may be anything: a proxy's page, nothing at all.
  static async of(response) {
    const body = await response.text().catch(() => "");
    const kind = response.headers.get("content-type") ?? "";
    const detail = /^application\/(problem\+)?json\b/i.test(kind) ? detailOf(body) : null;
    const retryAfterMs = retryAfter(response.headers.get("retry-after"));
    return new Problem(response.status, detail ?? describe(response), { retryAfterMs });
  }

  // Of a request that got no answer.
  static unreachable(cause) {
    return new Problem(0, "The server does not answer.", { cause });
  }

  // True if trying again with the same request is pointless: it is the request that is wrong, not the moment.
  get isPermanent() {
    return this.status >= 400 && this.status < 500 && ![401, 403, 404, 408, 409, 425, 429].includes(this.status);
  }
}

function detailOf(body) {
  try {
    const { detail, title } = JSON.parse(body);
    const text = detail ?? title;
    return typeof text === "string" && text !== "" ? text : null;
  } catch {
    return null;
  }
}

function describe(response) {
  return `The server answers ${response.status} ${response.statusText}`.trim() + ".";
}

// Seconds, or a date (RFC 9110 §10.2.3).
function retryAfter(value, now = Date.now()) {
  if (value === null) return null;
  const ms = /^\s*\d+\s*$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now;
  return Number.isFinite(ms) ? Math.max(0, ms) : null;
}
