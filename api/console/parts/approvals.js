// Calls of tools that wait for a person.

import { h } from "../core/reactive.js";
import { newKey, write } from "../client/http.js";
import { action, button, field, plainText, problemLine } from "./common.js";

// What a turn waits for: each call with its name and arguments, also where the server tells only ids.
function pendingOf(turn) {
  const calls = (turn.messages ?? []).flatMap(({ content }) => content).filter(({ type }) => type === "tool_use");
  const known = (call) => ({ tool_use_id: call, ...calls.find(({ id }) => id === call) });
  return turn.pending_approvals.map((each) => (typeof each === "string" ? known(each) : each));
}

export function approvalCards(turn, onDecided = () => {}) {
  const cards = pendingOf(turn).map((call) => card(turn, call, onDecided));
  return h("div.approvals", { role: "group", "aria-label": "Waiting for your approval" }, cards);
}

function card(turn, { tool_use_id: id, name, input, input_text: text = "" }, onDecided) {
  const reason = h("input", { type: "text", dir: "auto", maxlength: 2000 });
  const key = newKey();
  const deciding = action(async (approve) => {
    const body = { tool_use_id: id, approve, reason: reason.value.trim() || null };
    onDecided(await write("POST", `/api/turns/${turn.id}/decisions`, body, { key: `${key}${approve}` }));
  });
  const decide = (label, approve, more) => button(label, () => deciding.run(approve), { disabled: () => deciding.busy.value, ...more });
  return h(
    "section.approval",
    h("h3", "Call ", h("code", name ?? id)),
    plainText(input ? JSON.stringify(input, null, 2) : text, "Arguments"),
    field("Reason (goes on record)", reason),
    problemLine(deciding.problem),
    h("div.buttons", decide("Refuse", false), decide("Approve", true, { class: "primary" })),
  );
}
