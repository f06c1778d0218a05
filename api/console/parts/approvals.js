// Calls of tools that wait for a person.

import { h } from "../core/reactive.js";
import { newKey, write } from "../client/http.js";
import { action, button, field, plainText, problemLine } from "./common.js";

export function approvalCards(turn, onDecided = () => {}) {
  const cards = turn.pending_approvals.map((call) => card(turn, call, onDecided));
  return h("div.approvals", { role: "group", "aria-label": "Waiting for your approval" }, cards);
}

function card(turn, { tool_use_id: id, name, input }, onDecided) {
  const reason = h("input", { type: "text", dir: "auto", maxlength: 2000 });
  const key = newKey();
  const deciding = action(async (approve) => {
    const body = { tool_use_id: id, approve, reason: reason.value.trim() || null };
    onDecided(await write("POST", `/api/turns/${turn.id}/decisions`, body, { key: `${key}${approve}` }));
  });
  const decide = (label, approve, more) => button(label, () => deciding.run(approve), { disabled: () => deciding.busy.value, ...more });
  return h(
    "section.approval",
    h("h3", "Call ", h("code", name)),
    input ? plainText(JSON.stringify(input, null, 2), "Arguments") : h("p.hint", "The arguments are no JSON object."),
    field("Reason (goes on record)", reason),
    problemLine(deciding.problem),
    h("div.buttons", decide("Refuse", false), decide("Approve", true, { class: "primary" })),
  );
}
