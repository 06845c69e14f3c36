// What the live feed has told: the streams that run, their recent tokens, those that have just ended, and how far the server's clock is from ours.

import { Track } from "./strips.js";

const ENDED = 20;
const LINGER = 1.5; // seconds for which a stream that has ended keeps its row, so that nobody loses sight of it
const DEAF = 7; // seconds: the feed speaks every five, so that more without a word means that nobody knows what goes on
const SILENT = 1; // seconds: shorter silences do not change a row's place

export class Board {
  constructor() {
    this.streams = new Map();
    this.ended = [];
    this.offset = this.heardAt = null;
    this.stalledBy = {};
    this.unshown = 0;
    this.active = this.shown = 0;
    this.share = 1;
    this.told = false;
    this.endedAt = 0;
  }

  /** The server's clock, in seconds. It stands still while nothing is heard: what is not known is not drawn as silence. */
  now() {
    return this.offset === null ? 0 : Math.min(performance.now() / 1000, this.heardAt + DEAF) + this.offset;
  }

  /** For how many seconds nothing has been heard, when that is too long; else null. */
  deaf() {
    const passed = this.heardAt === null ? 0 : performance.now() / 1000 - this.heardAt;
    return passed > DEAF ? passed : null;
  }

  /** Take one event of the feed; its times are seconds on the recorder's monotonic clock. */
  take(event) {
    this.heardAt = performance.now() / 1000;
    const offset = event.now - this.heardAt;
    this.offset = this.offset === null || offset > this.offset ? offset : this.offset + (offset - this.offset) * 0.05;
    this.told = true;
    [this.active, this.shown, this.share] = [event.active, event.shown, event.share];
    [this.stalledBy, this.unshown] = [event.stalled_by ?? {}, event.unshown ?? 0];
    if (event.reset) this.streams.clear();
    for (const row of event.begun ?? []) this.begin(row, event.now);
    for (const row of event.moved ?? []) this.streams.get(row.id)?.move(row);
    for (const { id, since, blame } of event.stalled ?? []) this.streams.get(id)?.track.stall(since, blame);
    for (const [id, ...heard] of event.tokens ?? []) this.streams.get(id)?.track.add(...heard);
    for (const id of event.gone ?? []) this.leave(id, event.outcomes[id], event.now);
    if (event.ended) this.endedAt = event.now;
    if (event.ended) this.ended = [...event.ended.reverse(), ...this.ended].slice(0, ENDED);
    for (const [id, stream] of this.streams) if (stream.outcome && event.now - stream.track.ended > LINGER) this.streams.delete(id);
  }

  begin(row, now) {
    this.streams.set(row.id, new Stream(row, now));
  }

  /** A stream that has ended keeps its row a little longer; one that is merely no longer shown goes at once. */
  leave(id, outcome, now) {
    const stream = this.streams.get(id);
    if (!outcome) this.streams.delete(id);
    else if (stream) stream.end(outcome, now);
  }

  /** Streams in the order of the page: the longest silence first; then those that flow, by their age; those that have ended last. */
  ordered(now) {
    const silence = ({ outcome, track }) => {
      const passed = now - (track.last ?? track.received);
      if (outcome) return -1;
      return passed < SILENT ? 0 : passed;
    };
    const told = [...this.streams.values()].map((stream) => [stream, silence(stream)]);
    return told.sort(([one, a], [other, b]) => b - a || one.track.received - other.track.received).map(([stream]) => stream);
  }
}

/** One running stream: where it is, and its track. */
class Stream {
  constructor(row, now) {
    const { id, route, model, received } = row;
    Object.assign(this, { id, route, model, outcome: null, race: null });
    const silent = row.first_token_at === null && row.state !== "draining"; // nothing has come: that much is known of its past
    this.track = new Track(received, silent || now - received < 1 ? received : now, row.first_token_at);
    for (const [from, to, blame] of row.stalls ?? []) this.track.past(from, to, blame);
    this.move(row);
  }

  get state() {
    return this.outcome ?? this.told;
  }

  move({ state, upstream, rival, since, blame }) {
    if (state === "hedging" && this.told !== "hedging") this.track.raced = { from: since, to: null };
    if (state !== "hedging" && this.track.raced?.to === null) this.track.raced.to = since;
    if (state === "stalled") this.track.stall(since, blame);
    if (state === "streaming") this.track.spoke ??= since;
    [this.told, this.upstream, this.rival, this.blame] = [state, upstream, rival, blame];
  }

  end(outcome, now) {
    this.outcome = outcome;
    this.track.end(now);
  }

  /** The upstream, or the two that race. */
  get where() {
    return this.rival ? `${this.rival} → ${this.upstream}` : this.upstream || "–";
  }
}
