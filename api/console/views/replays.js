// Replays: recorded sessions run again. Starting one, watching it, and what came of each turn.

import { h, onEnd, signal } from "../core/reactive.js";
import { go } from "../core/router.js";
import { follow } from "../client/follow.js";
import { Pages, get, newKey, ticketed, write } from "../client/http.js";
import {
  action, brief, button, dialog, facts, field, form, heading, link, problemLine, stamp,
} from "../parts/common.js";
import { modelInput } from "../parts/composer.js";

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

function replayView(id) {
  const path = `/api/replays/${id}`;
  const [replay, results, left] = [signal(null), signal([]), new AbortController()];
  onEnd(() => left.abort());
  const onEvent = ({ type, data }) => {
    const told = JSON.parse(data);
    if (type === "replay.compared") results.update((all) => [...all, told]);
    else replay.value = told;
    return type !== "replay.compared";
  };
  const reading = action(async () => {
    results.value = [];
    replay.value = await get(path);
    await follow(`${path}/stream`, { onEvent, signal: left.signal });
  });
  const cancelling = action(() => write("POST", `${path}/cancel`, {}));
  const reporting = action(async () => {
    h("a", { href: await ticketed(`${path}/report`), target: "_blank", rel: "noopener" }).click();
  });
  reading.run();
  const byVerdict = () => Object.groupBy(results.value, ({ verdict }) => verdict);
  const shown = ({ status, mode, model }) => [
    heading(
      "Replay",
      h("span.flag", status),
      () => tally(Object.fromEntries(Object.entries(byVerdict()).map(([name, found]) => [name, found.length]))),
      h("nav.actions", status === "running" && button("Cancel", cancelling.run), button("Report", reporting.run)),
    ),
    facts([["How", mode], ["Model", model && h("code", model)]]),
    h("ol.results", () => VERDICTS.flatMap((name) => byVerdict()[name] ?? []).map(resultLine)),
  ];
  const problems = [reading, cancelling, reporting].map(({ problem, run }) => problemLine(problem, run));
  return h("div.page", problems, () => replay.value && shown(replay.value));
}

function resultLine({ session_id: session, turn_id: turn, new_session_id: made, verdict, first_difference: first }) {
  const place = first && h("code", [first.layer, first.path].filter(Boolean).join(" "));
  const change = first && h("span.quiet", `${brief(first.recorded)} → ${brief(first.now)}`);
  const links = [link(["turns", turn], {}, "recorded turn"), made && link(["compare", session, made], {}, "side by side")];
  return h("li", { class: verdict }, h("b", verdict), links, place, change);
}
