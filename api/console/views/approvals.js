// Calls of tools that wait for a person: those of a turn, and everything that waits, of all sessions.

import { h, signal } from "../core/reactive.js";
import { get, newKey, write } from "../client/http.js";
import { action, button, field, heading, link, plainText, problemLine, stamp, watch, words } from "../parts/common.js";
import { say, waitingCount } from "../parts/shell.js";
import { titleOf } from "./sessions.js";

const AGAIN_MS = 5000;

export function approvalsView() {
  const [turns, titles] = [signal(null), signal({})];
  const put = (found) => {
    const same = JSON.stringify(found) === JSON.stringify(turns.peek()); // what is being written stays
    if (!same) turns.value = found;
    waitingCount.value = found.length;
  };
  const reading = action(async () => {
    put((await get("/api/turns", { status: "requires_action", limit: 100 })).items);
    for (const { session_id: id } of turns.peek()) {
      if (titles.peek()[id]) continue;
      const session = await get(`/api/sessions/${id}`);
      titles.update((all) => ({ ...all, [id]: titleOf(session) }));
    }
  });
  watch(reading.run, AGAIN_MS);
  const decided = (turn) => {
    say("Decided.");
    const still = turn.status === "requires_action" ? [turn] : [];
    put(turns.peek().flatMap((each) => (each.id === turn.id ? still : [each])));
  };
  const one = (turn) => h(
    "article.waiting",
    h("h2", link(["sessions", turn.session_id], {}, () => words(titles.value[turn.session_id] ?? "Session"))),
    h("p.hint", "Asked by ", h("code", turn.model), ", the turn began ", stamp(turn.started_at)),
    approvalCards(turn, decided),
  );
  const all = () => turns.value && (turns.value.length ? turns.value.map(one) : h("p.empty", "Nothing waits for you."));
  return h("div.page", heading("Approvals"), problemLine(reading.problem, reading.run), all);
}

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
