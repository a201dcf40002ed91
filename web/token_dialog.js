// Asks for the server's token.

export class TokenDialog extends EventTarget {
  #dialog;
  #input;
  #message;

  // Fires `token` with what was entered as `detail`.
  constructor(dialog) {
    super();
    this.#dialog = dialog;
    this.#input = dialog.querySelector("input[type=password]");
    this.#message = dialog.querySelector("[data-part=message]");
    dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      const token = this.#input.value.trim();
      if (token === "") return;
      // As the server has them: anything else cannot stand in a header, and is a slip of copying.
      if (!/^[\x21-\x7e]+$/.test(token)) return this.ask({ refused: true });
      this.#dialog.close();
      this.dispatchEvent(new CustomEvent("token", { detail: token }));
    });
    // Without a token there is nothing behind it to go back to.
    dialog.addEventListener("cancel", (event) => event.preventDefault());
  }

  // `refused`: the one that was sent is not right.
  ask({ refused }) {
    this.#message.textContent = refused ? "This token is not right." : "";
    this.#input.toggleAttribute("aria-invalid", refused);
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#input.select();
  }

  close() {
    this.#input.value = "";
    if (this.#dialog.open) this.#dialog.close();
  }
}
