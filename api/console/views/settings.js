// A session's settings: for a new one, and for one that is there.

import { h } from "../core/reactive.js";
import { go } from "../core/router.js";
import { newKey, write } from "../client/http.js";
import { action, button, dialog, field, form, problemLine } from "../parts/common.js";
import { modelInput } from "../parts/composer.js";

const NUMBERS = { budget_tokens: "Token budget", max_output_tokens: "Longest answer, in tokens" };

// Resolves with the session that was made or changed; with nothing where it was left as it is.
export function settingsDialog(session = null) {
  return dialog(session ? "Settings of this session" : "A new session", (close) => {
    const given = (name, more) => ({ name, dir: "auto", value: session?.[name] ?? "", ...more });
    const number = (name) => h("input", given(name, { type: "number", min: 1 }));
    const key = newKey();
    const saving = action(async (filled) => {
      const changes = readForm(filled, session);
      if (!session) return close(await write("POST", "/api/sessions", changes, { key }));
      if (!Object.keys(changes).length) return close();
      return close(await write("PATCH", `/api/sessions/${session.id}`, changes, { match: session.version }));
    });
    const save = { type: "submit", disabled: () => saving.busy.value };
    return form(
      saving.run,
      field("Title", h("input", given("title", { maxlength: 500 }))),
      field("Model", modelInput(given("model")), session ? null : "The server's own where none is named."),
      field("System prompt", h("textarea", given("system", { rows: 4 }))),
      h("div.columns", Object.entries(NUMBERS).map(([name, label]) => field(label, number(name)))),
      field("Model that answers where this one cannot", modelInput(given("fallback_model"))),
      problemLine(saving.problem),
      h("div.buttons", button("Cancel", () => close()), h("button.primary", save, session ? "Save" : "Begin")),
    );
  });
}

// What was given in a form; of a session that is there, what differs from it.
function readForm(filled, session) {
  const found = {};
  for (const [name, raw] of new FormData(filled)) {
    const value = raw === "" ? null : name in NUMBERS ? Number(raw) : raw;
    if (value !== (session?.[name] ?? null)) found[name] = value;
  }
  return found;
}

export async function newSession() {
  const session = await settingsDialog();
  if (session) go(["sessions", session.id]);
}
