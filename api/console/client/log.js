// The events of a session or of the whole log, newest first: read backwards as somebody asks for more, and live.

import { batch, signal } from "../core/reactive.js";
import { follow } from "./follow.js";
import { get } from "./http.js";

const PAGE = 200;

export class EventLog {
  constructor(session) {
    this.session = session;
    this.path = session ? `/api/sessions/${session}/events` : "/api/events";
    Object.assign(this, { types: [], from: 0, newest: 0, left: new AbortController(), busy: false });
    Object.assign(this, { items: signal([]), complete: signal(false), problem: signal(null) });
  }

  numberOf({ version, position }) {
    return this.session ? version : position;
  }

  // Shows events of these types (of all, where none is named), and follows the log where it is `live`.
  async begin(types = this.types, live = true) {
    this.left.abort();
    const { signal: left } = (this.left = new AbortController());
    try {
      const newest = await this.end(left);
      Object.assign(this, { types, wanted: types.join() || null, newest, from: newest + 1, cursor: null, busy: false });
      for (const [each, value] of [[this.problem, null], [this.items, []], [this.complete, false]]) each.value = value;
      await this.older();
      if (live) await this.keepUp(left);
    } catch (error) {
      if (!left.aborted) this.problem.value = error;
    }
  }

  // The number of the newest event.
  async end(left) {
    if (this.session) return (await get(`/api/sessions/${this.session}`, {}, left)).version;
    const { items } = await get(this.path, { order: "desc", limit: 1 }, left);
    return items[0]?.position ?? 0;
  }

  // Reads on backwards.
  async older() {
    if (this.busy || this.from <= 1) return;
    const { types, left } = this;
    this.busy = true;
    try {
      const { found, from, cursor } = await (this.session ? this.stretch(left.signal) : this.page(left.signal));
      if (left !== this.left || types !== this.types) return;
      batch(() => {
        Object.assign(this, { from, cursor });
        this.items.update((items) => [...items, ...found]);
        this.complete.value = from === 1;
      });
    } catch (error) {
      if (!left.signal.aborted) this.problem.value = error;
    } finally {
      if (left === this.left) this.busy = false;
    }
    if (left === this.left && !this.problem.peek() && this.items.peek().length < PAGE / 4) await this.older();
  }

  // The next events of a session: a stretch of its versions, which are dense.
  async stretch(left) {
    const [from, end, found] = [Math.max(1, this.from - PAGE), this.from, []];
    for (let after = from - 1; after < end - 1; ) {
      const { items, next_cursor: more } = await get(this.path, { after, limit: PAGE, types: this.wanted }, left);
      found.push(...items.filter(({ version }) => version < end));
      after = more ? items.at(-1).version : end;
    }
    return { found: found.reverse(), from };
  }

  // The next page of the log. One of rare types may be empty, and have another behind it.
  async page(left) {
    const place = this.cursor ? { cursor: this.cursor } : { after: this.from };
    const query = { order: "desc", limit: PAGE, types: this.wanted, ...place };
    const { items, next_cursor: cursor } = await get(this.path, query, left);
    return { found: items, from: cursor ? this.from : 1, cursor };
  }

  async keepUp(left) {
    const onEvent = ({ data }) => {
      const event = JSON.parse(data);
      this.newest = Math.max(this.newest, this.numberOf(event));
      this.items.update((items) => [event, ...items]);
    };
    await follow(`${this.path}/stream`, { after: this.newest, query: { types: this.wanted }, onEvent, signal: left });
  }
}
