// The exact request that a model was sent, derived again from the log by the server, and the window it was made from.

import { count } from "../core/format.js";
import { h } from "../core/reactive.js";
import { get } from "../client/http.js";
import { fromBase64 } from "../proof/canonical.js";
import { facts, folded, loaded, plainText, pretty } from "./common.js";
import { copyButton } from "./copy.js";

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

function laidOut(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
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
