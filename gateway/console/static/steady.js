// A page that asks again and again outlives a question that fails: it keeps what it has, says of when that is, and asks anew. It is
// drawn anew only while no button is down.

import { Failure } from "./api.js";
import { fill, h, unpressed } from "./dom.js";
import { clock } from "./format.js";

export class Steady {
  constructor() {
    this.note = h("p", { class: "stale", role: "alert", hidden: true });
    this.at = null;
  }

  /** What `ask` returns, or undefined when the gateway cannot be asked; that it refuses (a 4xx) is thrown, as is that `signal` aborted. */
  async ask(ask, signal) {
    const [told, error] = await ask().then((answer) => [answer, null], (failure) => [undefined, failure]);
    const at = Date.now() / 1000;
    await unpressed();
    signal.throwIfAborted();
    if (!error) {
      this.at = at;
      this.note.hidden = true;
      return told;
    }
    if (error instanceof Failure && error.status >= 400 && error.status < 500) throw error;
    fill(this.note, this.at === null ? "The gateway does not answer; trying again: " : `As of ${clock(this.at)}; the gateway does not answer, trying again: `, h("code", {}, error.message));
    this.note.hidden = false;
    return undefined;
  }
}
