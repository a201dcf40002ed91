// Server-sent events (WHATWG HTML §9.2.6) out of a text that comes in pieces. EventSource would read them, but cannot send a
// token.

export class EventStream {
  #rest = "";
  #type = "";
  #data = [];

  // The events that are complete with `text`, in order: { type, data }. What is not known is left out, as are `id` and
  // `retry`: whoever reads begins anew after a loss.
  push(text) {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    return lines.map((line) => this.#line(line)).filter((event) => event !== null);
  }

  #line(line) {
    if (line === "") return this.#dispatch();
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (field === "event") this.#type = value;
    else if (field === "data") this.#data.push(value);
    return null;
  }

  #dispatch() {
    const event = { type: this.#type || "message", data: this.#data.join("\n") };
    const isEmpty = this.#data.length === 0;
    this.#type = "";
    this.#data = [];
    return isEmpty ? null : event;
  }
}
