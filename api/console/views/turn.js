// What the model saw: a turn's requests and tools in time, the window they held, and the request itself.

import { clock, count, duration, full, money } from "../core/format.js";
import { h, onEnd } from "../core/reactive.js";
import { may } from "../client/me.js";
import { get } from "../client/http.js";
import { facts, heading, link, loaded, stamp } from "../parts/common.js";
import { promptView } from "../parts/prompt.js";
import { timeline } from "../parts/timeline.js";

const ENDS = ["turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted"];
const OF_TURN = [
  ...["attempt.started", "attempt.ended", "tool.called", "tool.returned", "tool.approved", "tool.refused"],
  ...["turn.started", "turn.paused", "turn.resumed", ...ENDS],
];
const AGAIN_MS = 1500;

export function turnView([id], query) {
  let timer;
  onEnd(() => clearTimeout(timer));
  const read = async () => {
    const turn = await get(`/api/turns/${id}`);
    return { turn, events: await eventsOf(turn) };
  };
  return loaded(read, ({ turn, events }, again) => {
    if (turn.status === "running") timer = setTimeout(again, AGAIN_MS);
    return whole(turn, events, query);
  });
}

// A turn's events are near its messages; those of one without any are looked for from the session's beginning.
async function eventsOf({ id, session_id: session, messages, attempts }) {
  const first = messages?.[0]?.version;
  const query = { types: OF_TURN.join(), limit: 200 };
  query.after = first === undefined ? 0 : Math.max(0, first - 3 * attempts.length - 10);
  const found = [];
  for (;;) {
    const page = await get(`/api/sessions/${session}/events`, query);
    found.push(...page.items.filter((event) => event.id === id || event.facts.turn === id));
    const over = ENDS.includes(found.at(-1)?.type);
    if (over || page.next_cursor === null) return found;
    Object.assign(query, { after: null, cursor: page.next_cursor });
  }
}

function whole(turn, events, query) {
  const { session_id: session, status, model, started_at: started, usage, costs, error } = turn;
  const { stop_reason: reason, vendor_stop_reason: vendor } = turn;
  const { output_tokens: given, reasoning_tokens: reasoning } = usage;
  const at = turn.messages?.[0]?.version;
  return [
    heading("What the model saw", h("span.flag", { class: status === "failed" ? "bad" : "" }, status), h("nav.actions", link(["sessions", session], { at }, "Conversation"))),
    facts([
      ["Model", h("code", model)],
      ["Started", stamp(started, full)],
      ["Took", duration(turn.duration_ms)],
      ["First word after", duration(turn.first_chunk_ms)],
      ["Stopped because", reason && `${reason}${vendor && vendor !== reason ? ` (${vendor})` : ""}`],
      ["Tokens in", usage.input_tokens !== null && tokensIn(usage)],
      ["Tokens out", given !== null && `${count(given)}${reasoning ? `, of which ${count(reasoning)} reasoning` : ""}`],
      ["Cost", money(costs) || "no price is known"],
      ["Error", error && h("span", h("code", error.code), " ", error.detail)],
    ]),
    h("h2", "In time"),
    timeline(turn, events),
    h("h2", "Requests"),
    turn.attempts.map((attempt) => request(turn, attempt, events, query)),
  ];
}

function tokensIn({ input_tokens: all, cache_read_tokens: read, cache_write_tokens: written, estimated }) {
  const parts = [read && `${count(read)} from the cache`, written && `${count(written)} into it`].filter(Boolean);
  return `${estimated ? "≈ " : ""}${count(all)}${parts.length ? ` (${parts.join(", ")})` : ""}`;
}

function request(turn, attempt, events, query) {
  const { provider, model, round, attempt: nth, usage, outcome } = attempt;
  const find = (type) => events.find((event) => event.type === type && event.facts.round === round && event.facts.attempt === nth);
  const [started, ended] = [find("attempt.started"), find("attempt.ended")];
  const event = (found, label) => found && link(["events", turn.session_id, String(found.version)], {}, label);
  const number = turn.attempts.indexOf(attempt) + 1;
  const { price } = started?.facts ?? {};
  const inMicros = (micros) => ({ currency: price.currency, micros });
  return h(
    "section.request",
    h("h3", `Request ${number}`, " ", h("span.quiet", `round ${round}, try ${nth}, at ${clock(attempt.started_at)}`)),
    facts([
      ["Model", h("code", `${provider}/${model.replace(`${provider}/`, "")}`)],
      ["Outcome", outcome ?? "running"],
      ["Tokens", usage && `${tokensIn(usage)} in, ${count(usage.output_tokens)} out`],
      ["Cost", money(attempt.costs)],
      ["Took", duration(attempt.duration_ms)],
      ["Price of a million tokens", price && `${money([inMicros(price.input)])} in, ${money([inMicros(price.output)])} out`],
      ["On record", [event(started, "start"), " ", event(ended, "end")]],
    ]),
    may("chat") && promptView(turn.id, number, query.get("attempt") === String(number)),
  );
}
