// Replays: recorded sessions run again. Starting one, watching it, and what came of each turn.

import { plural } from "../core/format.js";
import { h, onEnd } from "../core/reactive.js";
import { go } from "../core/router.js";
import { Pages, get, newKey, ticketed, write } from "../client/http.js";
import { action, button, dialog, facts, field, form, heading, link, loaded, problemLine, stamp } from "../parts/common.js";
import { modelInput } from "../parts/composer.js";

const AGAIN_MS = 1000;
const BRIEF_CHARS = 80;
const VERDICTS = ["failed", "different", "skipped", "same"]; // worst first
const MODES = {
  recorded: "Recorded: the log answers; shows whether our code still asks the same",
  forced: "Forced: another model, on the recorded history",
  free: "Free: another model, on its own history",
};

export function replaysView([id], query) {
  return id ? replayView(id) : listView(query.get("sessions"));
}

function listView(named) {
  const pages = new Pages("/api/replays");
  pages.more();
  const row = ({ id, status, mode, model, counts, started_at: at }) => {
    const title = h("span.title", `${mode}${model ? `, ${model}` : ""}`);
    return h("li.row", link(["replays", id], {}, title, h("span.flag", status), tally(counts), at && stamp(at)));
  };
  const start = button("Replay sessions …", () => startReplay(named), { class: "primary" });
  const empty = () => pages.complete.value && !pages.items.value.length && h("p.empty", "No replay yet.");
  const more = () => !pages.complete.value && button("More", () => pages.more());
  const rows = () => h("ul.rows", pages.items.value.map(row));
  const problem = problemLine(pages.problem, () => pages.more());
  return h("div.page", heading("Replays", h("nav.actions", start)), problem, empty, rows, more);
}

function tally(counts) {
  const found = VERDICTS.filter((name) => counts[name]).map((name) => h("span", `${counts[name]} ${name}`));
  return h("span.figures", found);
}

function startReplay(named) {
  return dialog("Run sessions again", (close) => {
    const sessions = h("textarea", { rows: 3, spellcheck: "false", required: true, value: named ?? "" });
    const mode = h("select", Object.entries(MODES).map(([value, label]) => h("option", { value }, label)));
    const model = modelInput();
    const key = newKey();
    const starting = action(async () => {
      const other = model.querySelector("input").value.trim();
      const body = { sessions: sessions.value.split(/[\s,]+/).filter(Boolean), mode: mode.value };
      const replay = await write("POST", "/api/replays", other ? { ...body, model: other } : body, { key });
      close(replay);
      go(["replays", replay.id]);
    });
    const start = h("button.primary", { type: "submit", disabled: () => starting.busy.value }, "Start");
    const fields = [field("Sessions, by id", sessions), field("How", mode), field("Model", model, "For forced and free.")];
    return form(starting.run, fields, problemLine(starting.problem), h("div.buttons", button("Cancel", () => close()), start));
  });
}

// A replay with the results of all its turns.
async function readReplay(path) {
  const replay = await get(path);
  for (let cursor = replay.next_cursor; cursor; ) {
    const page = await get(path, { cursor });
    replay.results.push(...page.results);
    cursor = page.next_cursor;
  }
  return replay;
}

function replayView(id) {
  const path = `/api/replays/${id}`;
  let timer;
  onEnd(() => clearTimeout(timer));
  const cancelling = action(() => write("POST", `${path}/cancel`, {}));
  const reporting = action(async () => {
    h("a", { href: await ticketed(`${path}/report`), target: "_blank", rel: "noopener" }).click();
  });
  return loaded(() => readReplay(path), ({ status, mode, model, counts, results }, again) => {
    if (status === "running") timer = setTimeout(again, AGAIN_MS);
    const cancel = status === "running" && button("Cancel", cancelling.run);
    const report = button("Report", reporting.run);
    const sorted = [...results].sort((one, other) => VERDICTS.indexOf(one.verdict) - VERDICTS.indexOf(other.verdict));
    return [
      heading("Replay", h("span.flag", status), tally(counts), h("nav.actions", cancel, report)),
      problemLine(cancelling.problem),
      problemLine(reporting.problem),
      facts([["How", mode], ["Model", model && h("code", model)], ["So far", plural(results.length, "turn")]]),
      h("ol.results", sorted.map(resultLine)),
    ];
  });
}

function resultLine({ session_id: session, turn_id: turn, new_session_id: made, verdict, first_difference: first }) {
  const place = first && h("code", [first.layer, first.path].filter(Boolean).join(" "));
  const change = first && h("span.quiet", `${brief(first.recorded)} → ${brief(first.now)}`);
  const links = [link(["turns", turn], {}, "recorded turn"), made && link(["compare", session, made], {}, "side by side")];
  return h("li", { class: verdict }, h("b", verdict), links, place, change);
}

function brief(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value ?? null);
  return text.length > BRIEF_CHARS ? `${text.slice(0, BRIEF_CHARS - 1)}…` : text;
}
