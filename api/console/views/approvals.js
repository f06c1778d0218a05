// Everything that waits for a person, of all sessions.

import { h, onEnd, signal } from "../core/reactive.js";
import { get } from "../client/http.js";
import { approvalCards } from "../parts/approvals.js";
import { action, heading, link, problemLine, stamp, words } from "../parts/common.js";
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
  const every = setInterval(() => !document.hidden && reading.run(), AGAIN_MS);
  onEnd(() => clearInterval(every));
  reading.run();
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
