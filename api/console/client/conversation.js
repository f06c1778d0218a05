// A session as it is shown: a stretch of its messages with what happened between them, and what comes in.
//
// One stream is open at a time: the session's events, or, while a turn runs, the frames of that turn, in which its words
// come as they are written. Both are taken up where they were left, so that nothing is missing and nothing comes twice.

import { signal } from "../core/reactive.js";
import { follow } from "./follow.js";
import { get } from "./http.js";
import { MessageItem, NOTED, merged, messageOf, noteOf } from "./items.js";

const PAGE = 30;
const [MOST, KEPT] = [400, 200]; // items that are held while one follows the end
const ENDS = new Set(["turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted"]);
const DECIDED = new Set(["tool.approved", "tool.refused", "turn.cancelled"]);
const SAID = {
  "turn.started": "Answer started.",
  "turn.completed": "Answer complete.",
  "turn.failed": "The answer failed.",
  "turn.cancelled": "The answer was stopped.",
  "turn.interrupted": "The answer was interrupted.",
};

export class Conversation {
  constructor(id, { say = () => {}, following = () => false } = {}) {
    Object.assign(this, { id, path: `/api/sessions/${id}`, say, following, version: 0, frame: 0, busy: false });
    this.over = null; // the turn that ended last
    this.coming = new Map(); // id -> item of a message that comes in
    this.left = new AbortController();
    this.first = Promise.withResolvers(); // what was opened is shown
    this.session = signal(null);
    this.items = signal([]);
    this.turns = new Map(); // id -> signal of a turn, or of null until it is known
    this.running = signal(null); // the id of the turn that runs
    this.waiting = signal(null); // the turn that waits for a person
    this.connection = signal("live");
    this.problem = signal(null);
    this.atStart = signal(false);
    this.atEnd = signal(true);
  }

  // --- reading what is there ---

  // Shows the newest messages, or those around a version, and then follows.
  async open(version = null) {
    try {
      await this.refresh();
      const { open_turn_id: turn } = this.session.peek();
      await Promise.all([this.show(version), turn && this.settle(turn)]);
      this.first.resolve();
      if (!this.left.signal.aborted) await this.keepUp();
    } catch (problem) {
      if (!this.left.signal.aborted) this.problem.value = problem;
    }
  }

  async refresh() {
    this.session.value = await get(this.path, {}, this.left.signal);
  }

  async show(version) {
    const { version: newest } = this.session.peek();
    const near = version !== null && version < newest;
    const query = { order: "desc", limit: PAGE, siblings: true, after: near ? version + PAGE : null };
    const { items, next_cursor: more } = await get(`${this.path}/messages`, query, this.left.signal);
    const last = items[0]?.version ?? 0;
    this.version = Math.max(this.version, newest);
    this.items.value = [];
    this.atStart.value = more === null;
    this.atEnd.value = !near || last >= newest - 1;
    await this.add(items, more ? items.at(-1).version - 1 : 0, this.atEnd.peek() ? newest : last);
  }

  // Adds messages with what happened between two versions.
  async add(messages, after, upTo) {
    const query = { types: NOTED.join(), after, limit: 1000 };
    const notes = upTo > after ? (await get(`${this.path}/events`, query, this.left.signal)).items : [];
    const told = notes.filter((event) => event.version <= upTo && isTold(event)).map(noteOf);
    const known = messages.map((message) => new MessageItem(message.id, message));
    this.items.update((items) => merged(items, [...known, ...told]));
  }

  // What stands beside the newest messages in other branches, once a turn has ended.
  async reread() {
    const query = { order: "desc", limit: PAGE, siblings: true };
    const { items } = await get(`${this.path}/messages`, query, this.left.signal);
    const known = new Map(this.items.peek().map((item) => [item.key, item]));
    for (const message of items) known.get(message.id)?.record(message);
  }

  // Reads on: backwards ("desc") from the first message that is shown, or on from the last one.
  async more(order) {
    const edge = order === "desc" ? this.atStart : this.atEnd;
    const shown = this.items.peek().filter(({ kind }) => kind === "message");
    if (edge.peek() || this.busy || !shown.length) return;
    this.busy = true;
    try {
      const at = (order === "desc" ? shown[0] : shown.at(-1)).order;
      const query = { order, limit: PAGE, siblings: true, after: at };
      const { items, next_cursor: more } = await get(`${this.path}/messages`, query, this.left.signal);
      const last = items.at(-1)?.version ?? at;
      const [from, to] = order === "desc" ? [more ? last - 1 : 0, at - 1] : [at, more ? last : this.version];
      await this.add(items, from, to);
      edge.value = more === null;
    } catch (problem) {
      if (!this.left.signal.aborted) this.problem.value = problem;
    } finally {
      this.busy = false;
    }
  }

  // What is known of a turn: model, end, cost, times. Read once it is asked for.
  turn(id) {
    let known = this.turns.get(id);
    if (!known) {
      known = signal(null);
      this.turns.set(id, known);
      this.readTurn(id).catch(() => {}); // and again when the connection is back
    }
    return known;
  }

  async readTurn(id) {
    const turn = await get(`/api/turns/${id}`, {}, this.left.signal);
    this.learn(turn);
    return turn;
  }

  // A turn told by a frame has the ids of its messages, which have been shown. `last` is that of its last answer.
  learn(turn) {
    const isAnswer = (id) => this.items.peek().some(({ key, message }) => key === id && message?.peek()?.role === "assistant");
    const known = { ...turn, last: turn.message_ids ? turn.message_ids.findLast(isAnswer) : turn.message?.id };
    if (this.turns.has(turn.id)) this.turns.get(turn.id).value = known;
    else this.turns.set(turn.id, signal(known));
  }

  // --- following ---

  async keepUp() {
    const { signal: left } = this.left;
    const onState = (state) => {
      this.connection.value = state;
      if (state !== "live") return;
      for (const [id, turn] of this.turns) if (!turn.peek()) this.readTurn(id).catch(() => {});
    };
    while (!left.aborted) {
      const turn = this.running.peek();
      if (turn) {
        const onEvent = (event) => this.takeFrame(turn, event);
        const after = this.frame || null;
        await follow(`/api/turns/${turn}/stream`, { after, onEvent, onState, signal: left });
        if (this.running.peek() === turn) await this.settle(turn);
      } else {
        const onEvent = (event) => this.takeEvent(JSON.parse(event.data));
        await follow(`${this.path}/events/stream`, { after: this.version, onEvent, onState, signal: left });
      }
    }
  }

  // A turn that is open, or whose stream did not say how it ended, or that has paused: it may have gone on since.
  async settle(id) {
    const turn = await this.readTurn(id);
    if (turn.status === "requires_action") this.pause(turn);
    else if (turn.status !== "running") this.end(turn);
    else if (this.running.peek() !== id) this.start(id, this.frame);
  }

  start(id, frame) {
    this.frame = frame;
    this.running.value = id;
    this.waiting.value = null;
  }

  // Gives true where the turn's stream is to be read next.
  takeEvent(event) {
    this.version = Math.max(this.version, event.version);
    const { type, facts } = event;
    if (type === "message.appended") this.put(new MessageItem(event.id, messageOf(event)));
    else if (type === "turn.started" && event.id !== this.over) this.start(event.id, 0);
    else if (type === "turn.resumed" && facts.turn !== this.over) this.start(facts.turn, this.frame);
    else if (DECIDED.has(type) && this.waiting.peek()?.id === facts.turn) this.settle(facts.turn).catch(() => {});
    if (isTold(event)) this.put(noteOf(event));
    if (type.startsWith("session.") || type === "body.erased" || ENDS.has(type)) this.refreshSoon(ENDS.has(type));
    if (type === "body.erased") this.erase(event);
    return this.running.peek() !== null;
  }

  // Gives true at the end of the turn's stream.
  takeFrame(turn, { id, type, data }) {
    const told = JSON.parse(data);
    this.frame = Number(id);
    if (type === "block.started") this.comingItem(told.message_id).begin(told);
    else if (type === "delta") this.coming.get(told.message_id)?.grow(told);
    else if (type === "message.appended") this.put(new MessageItem(told.id, told));
    else if (ENDS.has(type)) this.end({ ...told, id: turn });
    if (SAID[type]) this.say(SAID[type]);
    return type === "turn.paused" || ENDS.has(type);
  }

  pause(turn) {
    this.say("A tool call needs your approval.");
    this.learn(turn);
    this.running.value = null;
    this.waiting.value = turn;
  }

  end(turn) {
    this.over = turn.id;
    this.coming.clear();
    this.learn(turn);
    this.running.value = null;
    if (this.waiting.peek()?.id === turn.id) this.waiting.value = null;
    this.letGo();
    this.refreshSoon(true);
  }

  // What is far above the end is let go of while nobody looks there: it is read again when somebody does.
  letGo() {
    const items = this.items.peek();
    if (items.length <= MOST || !this.atEnd.peek() || !this.following()) return;
    const from = items.findIndex(({ kind }, index) => index >= items.length - KEPT && kind === "message");
    this.items.value = items.slice(from);
    this.atStart.value = false;
    const turns = new Set(this.items.peek().map(({ message }) => message?.peek()?.turn_id));
    for (const id of this.turns.keys()) if (!turns.has(id)) this.turns.delete(id);
  }

  erase(event) {
    const { position, facts, actor, recorded_at: at, body } = event;
    const erased = { by_position: position, actor, at, reason: body?.reason ?? null };
    const targets = new Set(facts.targets);
    for (const item of this.items.peek()) {
      const message = item.message?.peek();
      if (message && targets.has(message.position)) item.record({ ...message, content: [], erased });
    }
  }

  comingItem(id) {
    if (!this.coming.has(id)) {
      const known = this.items.peek().find((item) => item.key === id);
      this.coming.set(id, known ?? new MessageItem(id));
      if (!known) this.put(this.coming.get(id));
    }
    return this.coming.get(id);
  }

  // What is beyond the stretch that is shown waits until somebody goes there.
  put(item) {
    if (item.kind === "message" && item.message.peek()) this.version = Math.max(this.version, item.order);
    if (this.atEnd.peek()) this.items.update((items) => merged(items, [item]));
  }

  refreshSoon(ended = false) {
    this.stale ||= ended;
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      const reads = [this.refresh(), this.stale && this.reread()];
      this.stale = false;
      await Promise.allSettled(reads);
    }, 50);
  }
}

// Changes of a title are seen at the top.
function isTold({ type, facts }) {
  return NOTED.includes(type) && !(type === "session.updated" && facts.changed.every((name) => name === "title"));
}
