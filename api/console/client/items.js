// What stands in a conversation: messages, as they are recorded or as they come in, and notes of what else happened.

import { signal } from "../core/reactive.js";

// Events that are told between the messages.
export const NOTED = [
  ...["turn.failed", "turn.cancelled", "turn.interrupted", "tool.approved", "tool.refused"],
  ...["session.updated", "session.archived", "session.restored", "body.erased"],
];

const LAST = Number.MAX_SAFE_INTEGER;

// One block of a message; its text grows while it comes in.
export class Block {
  constructor({ type, id = null, name = null }, text = "", raw = null) {
    Object.assign(this, { type, id, name, raw });
    this.text = signal(text);
    this.complete = signal(raw !== null);
  }

  static recorded(raw) {
    const text = raw.type === "tool_use" ? (raw.input_text ?? JSON.stringify(raw.input ?? {})) : (raw.text ?? "");
    return new Block(raw, text, raw);
  }
}

export class MessageItem {
  constructor(id, message = null) {
    Object.assign(this, { kind: "message", key: id, id, order: LAST, coming: [] });
    this.message = signal(null);
    this.blocks = signal([]);
    if (message) this.record(message);
  }

  // A recorded message takes the place of what came in; a block that is the same stays as it is shown.
  record(message) {
    const before = this.blocks.peek();
    this.blocks.value = message.content.map((raw, index) => {
      const block = Block.recorded(raw);
      const same = before[index];
      if (same?.type !== block.type || same.text.peek() !== block.text.peek()) return block;
      same.raw = raw;
      same.complete.value = true;
      return same;
    });
    this.order = message.version;
    this.message.value = message;
  }

  begin({ block, type, id, name }) {
    if (this.message.peek()) return;
    const blocks = [...this.blocks.peek()];
    blocks[block] = new Block({ type, id, name });
    this.blocks.value = blocks.filter(Boolean);
    this.coming[block] = blocks[block];
  }

  grow({ block, text }) {
    const growing = this.coming[block];
    if (growing && !this.message.peek()) growing.text.update((before) => before + text);
  }
}

export function noteOf(event) {
  return { kind: "note", key: event.id, order: event.version, event };
}

// A message as the API lists it, from the event that recorded it.
export function messageOf(event) {
  const { id, session_id, version, position, actor, facts, body, erased } = event;
  const { role, tokens, complete, turn, model = null, stop_reason = null } = facts;
  const shared = { id, session_id, version, position, role, actor, complete, erased, turn_id: turn, model, stop_reason };
  return { ...shared, content: body?.content ?? [], token_count: tokens, created_at: event.recorded_at };
}

// Puts items into a list in their order, in the place of those with the same key.
export function merged(list, items) {
  const byKey = new Map(list.map((item) => [item.key, item]));
  for (const item of items) {
    const known = byKey.get(item.key);
    if (known?.kind === "message" && item.message?.peek()) known.record(item.message.peek());
    else if (!known) byKey.set(item.key, item);
  }
  return [...byKey.values()].sort((one, other) => one.order - other.order);
}
