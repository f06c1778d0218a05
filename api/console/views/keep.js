// Erasing the words of a session, holding it, and taking it out.

import { h, signal } from "../core/reactive.js";
import { get, may, newKey, ticketed, write } from "../client/http.js";
import {
  action, button, dialog, field, form, heading, link, loaded, plural, problemLine, words,
} from "../parts/common.js";
import { titleOf } from "./sessions.js";

const WHAT_GOES = `Words and their salts go, for good. Who, when and where stay, with the reason that you give; proofs
  hold as before. Backups and earlier exports are out of reach.`;
const NO_SCOPE = "Your key may neither hold nor erase: that needs the scope “erase”.";

export function keepView([id]) {
  const done = signal(null);
  return loaded(() => get(`/api/sessions/${id}`), (session, again) => [
    heading(words(titleOf(session)), h("nav.actions", link(["sessions", id], {}, "Conversation"))),
    exportSection(id),
    may("erase") ? [holdSection(session, again), eraseSection(session, again, done)] : h("p.hint", NO_SCOPE),
  ]);
}

function exportSection(id) {
  const path = `/api/sessions/${id}`;
  const opening = action(async (name, query) => {
    const how = query.format === "html" ? { target: "_blank" } : { download: "" };
    h("a", { href: await ticketed(`${path}/${name}`, query), rel: "noopener", ...how }).click();
  });
  const offer = (label, name, format) => button(label, () => opening.run(name, format ? { format } : {}));
  const others = [offer("Messages for OpenAI", "export", "openai"), offer("OpenTelemetry", "export", "otel")];
  return h(
    "section",
    h("h2", "Take it out"),
    h("p.hint", "A bundle proves itself: it holds the events, their proofs, and a verifier that runs without this server."),
    h("div.buttons.left", offer("Bundle", "export"), offer("Transcript", "transcript", "html"), offer("Transcript, Markdown", "transcript", "md"), others),
    problemLine(opening.problem),
  );
}

function holdSection({ id, version, legal_hold: held }, again) {
  const changing = action(async () => {
    await write("PATCH", `/api/sessions/${id}`, { legal_hold: !held }, { match: version });
    await again();
  });
  const state = held ? "This session is held: nothing of it can be erased." : "This session is not held.";
  const change = h("div.buttons.left", button(held ? "Release" : "Hold", changing.run));
  return h("section", h("h2", "Legal hold"), h("p", state), change, problemLine(changing.problem));
}

function eraseSection(session, again, done) {
  const reason = h("input", { type: "text", dir: "auto", maxlength: 1000, required: true });
  const versions = h("input", { type: "text", placeholder: "all", inputmode: "numeric", pattern: "[0-9, ]*" });
  const path = `/api/sessions/${session.id}/erase`;
  const erasing = action(async () => {
    const named = versions.value.split(/[ ,]+/).filter(Boolean).map(Number);
    const body = { reason: reason.value.trim(), ...(named.length && { versions: named }) };
    const reach = await write("POST", `${path}?dry_run=true`, body);
    if (!(await confirmed(session, named, reach))) return;
    done.value = await write("POST", path, body, { key: newKey(), match: session.version });
    await again();
  });
  const asking = () => form(
    erasing.run,
    field("Reason (goes on record)", reason),
    field("Versions, if not all of it", versions, "Numbers of events, as the record shows them."),
    h("div.buttons.left", h("button.stop", { type: "submit" }, "Erase …")),
  );
  const what = session.legal_hold ? null : [h("p.hint", WHAT_GOES), asking()];
  const told = ({ erased, out_of_reach: beyond }) => `Erased: the words of ${plural(erased.length, "event")}. Out of reach: ${beyond.join(", ")}.`;
  const report = () => done.value && h("p.verdict.good", { role: "status" }, told(done.value));
  return h("section", h("h2", "Erase words"), what, problemLine(erasing.problem), report);
}

// Asks to type the name of the session; says first which others are reached, where the server tells.
function confirmed(session, named, reach) {
  const name = (session.title || session.id.slice(-8)).trim();
  const gone = `The words of ${plural(reach.versions.length, "event")}${named.length ? "" : ", which are all of this session,"}`;
  return dialog("Erase for good?", (close) => {
    const same = signal(false);
    const oninput = ({ target }) => same.update(() => target.value.trim() === name);
    const typed = h("input", { type: "text", dir: "auto", autocomplete: "off", oninput });
    const other = ({ session_id: id, versions }) =>
      h("li", link(["sessions", id], {}, `session ${id.slice(-8)}`), `: ${plural(versions.length, "event")}`);
    const others = (wanted, told) => {
      const found = reach.sessions.filter(({ relation }) => relation === wanted);
      return found.length > 0 && [h("p", told), h("ul", found.map(other))];
    };
    const yes = { class: "stop", disabled: () => !same.value };
    return [
      h("p", gone, " will be gone."),
      others("branch", "Branches show them, and lose them too:"),
      others("copy", "Copies keep them, and must be erased by themselves:"),
      field(["Type the session's name to confirm: ", words(name, "b")], typed),
      h("div.buttons", button("Keep", () => close(false)), button("Erase", () => close(true), yes)),
    ];
  });
}
