// Who erased words: told by the API, or found in the record where it tells only that they were.

import { get } from "./http.js";

// The erasures of a session, as `{ positions, by_position, by_version, actor, at, reason }`.
export async function erasuresOf(session, abort) {
  const found = [];
  for (let cursor = null; ; ) {
    const page = await get(`/api/sessions/${session}/events`, { types: "body.erased", limit: 1000, cursor }, abort);
    found.push(...page.items.map(toldOf));
    cursor = page.next_cursor;
    if (cursor === null) return found;
  }
}

export function toldOf({ position, version, facts, actor, recorded_at: at, body }) {
  const reason = body?.reason ?? null;
  return { positions: new Set(facts.targets), by_position: position, by_version: version, actor, at, reason };
}

export async function erasureOf({ session_id: session, position }) {
  return (await erasuresOf(session)).find(({ positions }) => positions.has(position)) ?? true;
}
