// What the model saw: a turn's requests and tools in time, the window they held, and the request itself.

import { h, onEnd } from "../core/reactive.js";
import { get, may } from "../client/http.js";
import {
  clock, copyButton, count, duration, facts, folded, full, heading, laidOut, link, loaded, money, plainText, pretty, stamp,
} from "../parts/common.js";
import { fromBase64 } from "../proof/check.js";

const ENDS = ["turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted"];
const OF_TURN = [
  ...["attempt.started", "attempt.ended", "tool.called", "tool.returned", "tool.approved", "tool.refused"],
  ...["turn.started", "turn.paused", "turn.resumed", ...ENDS],
];
const AGAIN_MS = 1500;

export function turnView([id], query) {
  const read = async () => {
    const turn = await get(`/api/turns/${id}`);
    return { turn, events: await eventsOf(turn) };
  };
  return loaded(read, ({ turn, events }, again) => {
    const timer = turn.status === "running" && setTimeout(again, AGAIN_MS);
    onEnd(() => clearTimeout(timer));
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

const ms = (text) => Date.parse(text);
const told = (parts) => parts.filter(Boolean).join(", ");

export function timeline(turn, events) {
  const begin = ms(turn.started_at);
  const spans = [...turn.attempts.map(attemptSpan), ...toolSpans(events)].sort((one, other) => one.from - other.from);
  const end = Math.max(begin + 1, turn.ended_at ? ms(turn.ended_at) : Date.now(), ...spans.map(({ to }) => to));
  const place = (time) => Math.round(((time - begin) / (end - begin)) * 1000);
  const line = (span) => h("li", { class: span.kind }, h("span.name", span.name), bar(span, place), h("span.took", span.told));
  return h("ol.timeline", spans.map(line));
}

function bar({ from, to, first = null, name, told: said }, place) {
  const rect = (kind, x, width) => h(`rect.${kind}`, { x, y: 2, height: 8, width });
  const [x, width] = [place(from), Math.max(4, place(to) - place(from))];
  const frame = { viewBox: "0 0 1000 12", preserveAspectRatio: "none", role: "img", "aria-label": `${name}: ${said}` };
  return h("svg", frame, rect("span", x, width), first !== null && rect("waited", x, Math.max(0, place(first) - x)));
}

function attemptSpan(attempt) {
  const from = ms(attempt.started_at);
  const { duration_ms: took, first_chunk_ms: first, outcome, round, attempt: nth, model } = attempt;
  const good = outcome === null || outcome === "completed";
  return {
    name: `Round ${round}${nth > 1 ? `, try ${nth}` : ""} · ${model}`,
    kind: good ? "attempt" : "attempt bad",
    told: told([duration(took), !good && outcome, money(attempt.costs)]),
    ...{ from, to: from + (took ?? 0), first: first === null ? null : from + first },
  };
}

function toolSpans(events) {
  return events.filter(({ type }) => type === "tool.called").map(({ facts, version, recorded_at: at }) => {
    const own = (types) => events.find((event) => types.includes(event.type) && event.facts.call === facts.call && event.version > version);
    const [returned, decided] = [own(["tool.returned"]), own(["tool.approved", "tool.refused"])];
    const [from, to] = [ms(at), ms(returned?.recorded_at ?? decided?.recorded_at ?? at)];
    const outcome = returned && returned.facts.outcome !== "completed" && returned.facts.outcome;
    const took = returned ? duration(returned.facts.duration_ms ?? to - from) : "waits";
    const kind = returned?.facts.is_error ? "tool bad" : "tool";
    return { name: `Tool · ${facts.name}`, from, to, kind, told: told([took, outcome, decided?.type.slice(5)]) };
  });
}

const SAME = "These are the bytes that were sent: the commitment is the recorded one.";
const OTHER = "The bytes derived today have another commitment than the recorded one.";

export function promptView(turn, attempt, open) {
  const read = () => get(`/api/turns/${turn}/prompt`, { attempt });
  const box = folded("The exact request, and why each message is in it", () => loaded(read, shown, "div"));
  if (open) box.open = true;
  return box;
}

function shown({ matches, commitment, recorded_commitment: recorded, renderer, counter, ...prompt }) {
  const text = new TextDecoder().decode(fromBase64(prompt.request_bytes_base64));
  const known = { Commitment: commitment, Recorded: recorded, Renderer: renderer, Counter: counter };
  return [
    h("p.verdict", { class: matches ? "good" : "bad" }, matches ? SAME : OTHER),
    facts(Object.entries(known).map(([name, value]) => [name, h("code", value)])),
    windowTable(prompt.window),
    folded("Parameters and tools", () => pretty({ ...prompt.parameters, tools: prompt.tools })),
    folded("The bytes of the request", () => [copyButton(() => text, "Copy", "Copy the request"), plainText(laidOut(text), "Request")]),
  ];
}

function windowTable(chosen) {
  const { included, omitted, tool_tokens: schemas } = chosen;
  const cells = (state, ...texts) => h("tr", { class: state }, texts.map((text) => h("td", text)));
  const row = (state) => ({ version, role, tokens, reason }) => cells(state, `#${version}`, role, count(tokens), reason.replaceAll("_", " "));
  const tools = schemas > 0 && cells("in", "", "tools", count(schemas), "their schemas");
  const sum = `${count(chosen.base_tokens)} × ${chosen.factor_permille / 1000} + ${chosen.overhead} a message = ${count(chosen.used_tokens)}`;
  const bound = `; budget ${count(chosen.budget_tokens)} less ${count(chosen.reserve_tokens)} for the reply`;
  const names = ["Version", "Role", "Tokens", "In or out, and why"].map((name) => h("th", { scope: "col" }, name));
  const rows = h("tbody", included.map(row("in")), tools, (omitted.items ?? []).map(row("out")));
  const left = omitted.count > 0 && h("p.hint", `${count(omitted.count)} left out, ${count(omitted.tokens)} tokens.`);
  const table = h("table", h("caption", sum, bound), h("thead", h("tr", names)), rows);
  return h("div.table", { tabindex: 0, role: "group", "aria-label": "Window" }, table, left);
}
