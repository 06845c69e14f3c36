// What was asked and said on a stream, where its route keeps that: shown as it came, the seam marked; of a running one, as it comes.

import { Failure, follow, get } from "./api.js";
import { fill, h, say } from "./dom.js";
import { count, seconds } from "./format.js";

const TICK = 1e-4; // seconds: what `cadence.ticks` counts in

/** Fill a room with the words of an ended stream. `heard`, if given, is a list that gets a function(offset), which shows the text as of then. */
export async function said(room, record, signal, heard = []) {
  if (!record.content) return;
  let content;
  try {
    content = await get(`/api/streams/${encodeURIComponent(record.stream_id)}/content`, signal);
  } catch (error) {
    if (error instanceof Failure) fill(room, panel("Text", h("p", { class: "muted" }, error.message)));
    return;
  }
  const answer = new Answer(content, record);
  heard.push((at) => answer.showAt(at));
  const play = h("button", { class: "plain", type: "button", onclick: () => answer.play(play, signal) }, "▷ play");
  const note = [content.cut ? "Not all of the answer is kept. " : "", content.prompt_cut ? "The prompt is cut." : ""].join("");
  fill(room, h("section", { class: "panel text" },
    h("div", { class: "bar" }, h("h2", {}, "Text"), answer.playable ? play : null, h("span", { class: "muted" }, `${count(answer.length)} characters`),
      note ? h("span", { class: "note" }, note) : null),
    prompt(content.prompt), folded("Reasoning", content.reasoning), answer.element,
    content.refusal ? h("p", { class: "said" }, h("span", { class: "muted" }, "refused: "), content.refusal) : null,
    content.tools.map((tool) => h("div", {}, h("p", { class: "muted" }, "calls ", h("code", {}, tool.name)), h("pre", {}, indented(tool.arguments))))));
}

/** Fill a room with what a running stream says, until it ends. */
export function along(room, record, signal) {
  if (!record.content) return;
  const over = new AbortController();
  signal.addEventListener("abort", () => over.abort(), { once: true });
  const [text, reasoning, state] = [h("p", { class: "said", role: "log", "aria-label": "The answer" }), h("pre"), h("span", { class: "muted" }, "from its beginning, as it comes")];
  const thoughts = h("details", { hidden: true }, h("summary", {}, "Reasoning"), reasoning);
  fill(room, h("section", { class: "panel text" }, h("div", { class: "bar" }, h("h2", {}, "Text"), state), thoughts, text));
  const take = (event) => {
    if (event.text) text.append(event.text);
    if (event.reasoning) {
      thoughts.hidden = false;
      reasoning.append(event.reasoning);
    }
    if (event.over) {
      say(state, "it has ended");
      over.abort();
    }
  };
  const broken = (error) => {
    if (error instanceof Failure) return over.abort(); // it has ended, or may not be read
    text.textContent = reasoning.textContent = ""; // it is told from its beginning again
  };
  follow(`/api/streams/${encodeURIComponent(record.stream_id)}/text`, take, broken, over.signal);
}

/** The answer's text: what has been said by a moment, and what is still to come, which keeps its place. */
class Answer {
  constructor(content, record) {
    this.length = [...content.text].length;
    const ticks = record.cadence.ticks ?? [];
    let at = record.offsets.first_token ?? 0;
    this.times = ticks.map((tick, place) => (at = place ? at + tick * TICK : at));
    this.cuts = units(content.text, content.cuts);
    const seams = units(content.text, content.seams);
    const edges = [0, ...seams, content.text.length];
    this.pieces = edges.slice(1).map((end, place) => ({ start: edges[place], text: content.text.slice(edges[place], end), told: h("span"), rest: h("span", { class: "unsaid" }) }));
    const marks = content.parts.map((part) => h("span", { class: "seam-mark", title: `${part.source} failed (${part.why}); ${part.target} went on at ${seconds(part.offset)}` }, `⟂ ${part.target}`));
    this.element = h("p", { class: "said" }, this.pieces.map((piece, place) => [place ? [" ", marks[place - 1], " "] : null, piece.told, piece.rest]));
    this.show(content.text.length);
    this.end = content.text.length;
    this.running = false;
  }

  get playable() {
    return this.end > 0 && this.cuts.length > 1 && this.cuts.length === this.times.length;
  }

  show(units) {
    for (const piece of this.pieces) {
      const told = Math.max(0, Math.min(piece.text.length, units - piece.start));
      say(piece.told, piece.text.slice(0, told));
      say(piece.rest, piece.text.slice(told));
    }
  }

  /** Show what had been said at a moment, in seconds since the request; what came after the last time that is kept counts as the end. */
  showAt(at) {
    if (!this.playable) return;
    let place = this.times.findIndex((time) => time > at);
    if (place < 0) place = this.times.length;
    this.show(place === this.times.length ? this.end : place ? this.cuts[place - 1] : 0);
  }

  play(button, signal) {
    if (this.running) return (this.running = false);
    this.running = true;
    say(button, "■ stop");
    const start = Math.max(0, this.times[0] - 0.3); // the wait for the first token is on the page already
    let began;
    this.showAt(start);
    const step = (now) => {
      began ??= now;
      const at = start + (now - began) / 1000;
      const over = !this.running || signal.aborted || at > this.times.at(-1);
      over ? this.show(this.end) : this.showAt(at);
      if (!over) return requestAnimationFrame(step);
      this.running = false;
      say(button, "▷ play");
    };
    requestAnimationFrame(step);
  }
}

/** Places counted in characters, as places in a string; they ascend. */
function units(text, places) {
  const found = [];
  let [characters, at] = [0, 0];
  for (const place of places) {
    for (; characters < place && at < text.length; characters += 1) at += text.codePointAt(at) > 0xffff ? 2 : 1;
    found.push(at);
  }
  return found;
}

function panel(title, ...inside) {
  return h("section", { class: "panel text" }, h("h2", {}, title), inside);
}

function folded(title, text) {
  return text ? h("details", {}, h("summary", {}, title), h("pre", {}, text)) : null;
}

function prompt(asked) {
  const turns = turnsOf(asked);
  return h("details", {}, h("summary", {}, "Prompt", turns.length > 1 ? ` · ${turns.length} turns` : ""),
    turns.map(([role, text]) => h("div", { class: "turn" }, h("span", { class: "badge" }, role || "asked"), h("p", { class: "said" }, text))),
    typeof asked === "string" ? null : folded("The whole request", JSON.stringify(asked, null, 2)));
}

/** [role, text] of each turn, in whichever dialect it was asked. */
function turnsOf(asked) {
  if (asked === null || typeof asked !== "object") return [["", String(asked)]];
  const system = asked.system ?? asked.instructions ?? asked.systemInstruction ?? asked.system_instruction;
  const turns = asked.messages ?? asked.input ?? asked.contents ?? asked.prompt ?? [];
  const told = (Array.isArray(turns) ? turns : [turns]).map((turn) => [turn?.role ?? turn?.type ?? "", flat(turn?.content ?? turn?.parts ?? turn)]);
  return [...(system ? [["system", flat(system)]] : []), ...told];
}

function flat(part) {
  if (typeof part === "string") return part;
  if (Array.isArray(part)) return part.map(flat).join("\n");
  if (typeof part?.text === "string") return part.text;
  return flat(part?.parts ?? JSON.stringify(part) ?? "");
}

function indented(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
