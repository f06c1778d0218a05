// A turn in time: its requests, with the wait for the first word, and its tools.

import { duration, money } from "../core/format.js";
import { h } from "../core/reactive.js";

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
