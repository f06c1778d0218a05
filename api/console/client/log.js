// The events of a session or of the whole log, newest first: read backwards as somebody asks for more, and live.

import { batch, signal } from "../core/reactive.js";
import { follow } from "./follow.js";
import { get, request } from "./http.js";
import { readCheckpoint } from "../proof/check.js";

const PAGE = 200;

export class EventLog {
  constructor(session) {
    this.session = session;
    this.path = session ? `/api/sessions/${session}/events` : "/api/events";
    this.filtered = Boolean(session); // the list of the whole log is not, and is looked through here
    Object.assign(this, { types: [], from: 0, newest: 0, left: new AbortController(), busy: false });
    Object.assign(this, { items: signal([]), complete: signal(false), problem: signal(null) });
  }

  numberOf({ version, position }) {
    return this.session ? version : position;
  }

  wants({ type }) {
    return !this.types.length || this.types.includes(type);
  }

  // Shows events of these types (of all, where none is named), and follows the log where it is `live`.
  async begin(types = this.types, live = true) {
    this.left.abort();
    const { signal: left } = (this.left = new AbortController());
    try {
      const newest = await this.end(left);
      Object.assign(this, { types, newest, from: newest + 1, busy: false });
      for (const [each, value] of [[this.problem, null], [this.items, []], [this.complete, false]]) each.value = value;
      await this.older();
      if (live) await this.keepUp(left);
    } catch (error) {
      if (!left.aborted) this.problem.value = error;
    }
  }

  // The number of the newest event: a session tells its version; that of a log is looked for behind its checkpoint.
  async end(left) {
    if (this.session) return (await get(`/api/sessions/${this.session}`, {}, left)).version;
    const note = await request("GET", "/api/log/checkpoint", { signal: left }).then((answer) => answer.text(), () => null);
    for (let size = note ? readCheckpoint(note).size : 0; ; ) {
      const { items } = await get(this.path, { after: size, limit: 1000 }, left);
      if (!items.length) return size;
      size = items.at(-1).position;
    }
  }

  // Reads on backwards, a stretch of numbers at a time: they are dense.
  async older() {
    if (this.busy || this.from <= 1) return;
    const { types, from, left } = this;
    const start = Math.max(1, from - PAGE);
    this.busy = true;
    try {
      const found = await this.between(start, from, left.signal);
      if (left !== this.left || types !== this.types) return;
      batch(() => {
        this.from = start;
        this.items.update((items) => [...items, ...found.reverse()]);
        this.complete.value = start === 1;
      });
    } catch (error) {
      if (!left.signal.aborted) this.problem.value = error;
    } finally {
      if (left === this.left) this.busy = false;
    }
    if (left === this.left && this.items.peek().length < PAGE / 4) await this.older();
  }

  async between(start, end, left) {
    const found = [];
    const types = this.filtered ? this.types.join() : null;
    for (let after = start - 1; after < end - 1; ) {
      const { items, next_cursor: more } = await get(this.path, { after, limit: PAGE, types }, left);
      found.push(...items.filter((event) => this.numberOf(event) < end && this.wants(event)));
      after = more ? this.numberOf(items.at(-1)) : end;
    }
    return found;
  }

  async keepUp(left) {
    const onEvent = ({ data }) => {
      const event = JSON.parse(data);
      this.newest = Math.max(this.newest, this.numberOf(event));
      if (this.wants(event)) this.items.update((items) => [event, ...items]);
    };
    await follow(`${this.path}/stream`, { after: this.newest, onEvent, signal: left });
  }
}
