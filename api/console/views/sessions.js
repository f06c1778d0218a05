// The sessions of the tenant, newest activity first; and the settings of one.

import { h, onEnd, signal } from "../core/reactive.js";
import { go, stay } from "../core/router.js";
import { Pages, may, newKey, write } from "../client/http.js";
import {
  action, button, dialog, field, form, heading, link, money, plural, problemLine, quiet, short, stamp, words,
} from "../parts/common.js";
import { modelInput } from "../parts/composer.js";
import { VirtualList } from "../parts/virtual.js";

const TYPED_MS = 250;

export const titleOf = (session) => session.title || session.preview || "Untitled";

export function sessionsView(_, query) {
  const filters = signal({ status: "active", ...Object.fromEntries(query) });
  const asked = () => ({ limit: 100, ...filters.peek(), ...(filters.peek().status === "all" && { status: null }) });
  const pages = new Pages("/api/sessions", asked());
  const set = (name, value) => {
    filters.update((before) => ({ ...before, [name]: value }));
    stay(["sessions"], filters.peek());
    pages.again(asked());
  };
  const changing = action(async (session, change) => {
    const match = { match: session.version };
    const archived = change && (await write("PATCH", `/api/sessions/${session.id}`, change, match));
    if (archived ?? (await settingsDialog(session))) await pages.again();
  });
  const list = new VirtualList(h("ul.rows"), {
    label: "Sessions",
    items: () => pages.items.value,
    keyOf: ({ id }) => id,
    render: (session) => row(session, changing),
    guess: 41,
    onEnd: () => !pages.problem.peek() && pages.more(),
  });
  pages.more();
  const isEmpty = () => pages.complete.value && !pages.items.value.length;
  return [
    heading("Sessions", controls(filters, set), button("New session", newSession, { class: "primary", "data-new": "" })),
    problemLine(changing.problem),
    problemLine(pages.problem, () => pages.more()),
    () => isEmpty() && h("p.empty", "No session here. ", button("Begin one", newSession)),
    list.element,
  ];
}

function controls(filters, set) {
  const given = filters.peek();
  const typed = (name, label) => {
    let timer;
    const oninput = (event) => {
      clearTimeout(timer);
      timer = setTimeout(() => set(name, event.target.value.trim()), TYPED_MS);
    };
    onEnd(() => clearTimeout(timer));
    const search = { type: "search", placeholder: label, "aria-label": label, value: given[name] ?? "", oninput };
    return h("input", { ...search, "data-search": true });
  };
  const box = (name) => {
    const onchange = (event) => set(name, event.target.checked ? "true" : null);
    const input = () => h("input", { type: "checkbox", checked: given[name] === "true", onchange });
    return h("label.check", input(), name.replace("has_", ""));
  };
  const onchange = (event) => set("status", event.target.value);
  const option = (value) => h("option", { value, selected: given.status === value }, value);
  const status = h("select", { "aria-label": "Which sessions", onchange }, ["active", "archived", "all"].map(option));
  const search = [typed("title_contains", "Title"), typed("model", "Model")];
  return h("span.controls", search, status, box("has_failed"), box("waiting"));
}

function row(session, changing) {
  const { id, status } = session.peek();
  const now = () => session.value;
  const [label, other] = status === "archived" ? ["Restore", "active"] : ["Archive", "archived"];
  const shown = link(
    ["sessions", id],
    {},
    h("span.title", { class: () => (now().title || now().preview ? "" : "quiet") }, () => words(titleOf(now()))),
    h("span.flags", () => flags(now())),
    h("code.model", () => now().model),
    h("span.figures", () => figures(now())),
    () => stamp(now().updated_at),
  );
  const rename = quiet("Rename", () => changing.run(session.peek()));
  const archive = quiet(label, () => changing.run(session.peek(), { status: other }));
  return h("li.row", { class: status }, shown, may("chat") && h("span.actions", rename, archive));
}

function flags({ status, open_turn_id: open, legal_hold: hold, failed_count: failed, family }) {
  return [
    status === "archived" && h("span.flag", "archived"),
    open && h("span.flag.live", "open turn"),
    hold && h("span.flag", "held"),
    failed > 0 && h("span.flag.bad", plural(failed, "failure")),
    family?.size > 1 && h("span.flag", plural(family.size, "branch", "branches")),
  ];
}

export function figures({ turn_count: turns, usage, costs }) {
  const used = (usage.input_tokens ?? 0) + (usage.output_tokens ?? 0);
  return [plural(turns, "turn"), used > 0 && `${short(used)} tokens`, money(costs)].filter(Boolean).map((figure) => h("span", figure));
}

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
