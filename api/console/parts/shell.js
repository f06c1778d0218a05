// What is around every view: the way from one to another, who one is, what was said last, asking for a key, and the keys
// of the keyboard.

import { append, effect, h, inScope, signal } from "../core/reactive.js";
import { go, route } from "../core/router.js";
import { get, locked, logIn, logOut, may, me } from "../client/http.js";
import { action, actorName, button, dialog, field, form, link, problemLine, quiet, watch } from "./common.js";

const WAITING_MS = 15_000;
const KEY_HINT = "It is traded for a pass of this browser, good for twelve hours. The key itself is kept nowhere.";

const said = signal("");
export const waitingCount = signal(0);

// Says something to those who do not see the page change.
export function say(text) {
  said.value = "";
  setTimeout(() => said.update(() => text), 50);
}

export function shell(views) {
  const main = h("main", { id: "main", tabindex: -1 });
  const onclick = (event) => {
    event.preventDefault();
    main.focus();
  };
  let end = null;
  effect(() => {
    const { parts, query } = route.value;
    end?.();
    const view = views[parts[0]] ?? views.nowhere;
    main.replaceChildren();
    [, end] = inScope(() => append(main, view(parts.slice(1), query)));
    document.title = `${main.querySelector("h1")?.textContent || "Manent"} – Manent`;
    const { activeElement: focused } = document;
    if (focused === document.body || !focused?.isConnected) main.focus({ preventScroll: true });
  });
  effect(() => me.value && watch(countWaiting, WAITING_MS));
  const status = h("p.offscreen", { role: "status" }, () => said.value);
  return [h("a.skip", { href: "#main", onclick }, "Skip to the content"), header(), main, status];
}

function header() {
  const current = (name) => () => (route.value.parts[0] === name ? "page" : null);
  const tab = (name, ...label) => h("a", { href: `#/${name}`, "aria-current": current(name) }, label);
  const waiting = () => waitingCount.value || null;
  const badge = () => waiting() && h("span.badge", waiting(), h("span.offscreen", " waiting"));
  const tabs = () => me.value && [
    may("chat") && tab("sessions", "Sessions"),
    may("chat") && tab("approvals", "Approvals ", badge),
    may("audit") && tab("record", "Record"),
    may("chat") && tab("replays", "Replays"),
  ];
  const leave = async () => {
    await logOut();
    location.reload();
  };
  const who = () => me.value && [
    h("span", { title: `tenant ${me.value.tenant}` }, actorName(me.value.actor)),
    me.value.actor !== "local" && quiet("Log out", leave),
  ];
  const help = quiet("?", showHelp, { "aria-label": "Keys and help", "aria-keyshortcuts": "?" });
  const home = link(["sessions"], {}, h("b", "Manent"));
  return h("header.top", home, h("nav", { "aria-label": "Views" }, tabs), h("span.who", who), help);
}

// Counts the turns that wait for a person.
async function countWaiting() {
  if (locked.peek() || !may("chat")) return;
  const found = await get("/api/turns", { status: "requires_action", limit: 100 }).catch(() => null);
  if (found) waitingCount.value = found.items.length;
}

// Asks for a key whenever one is needed, until one was taken. It is traded for a cookie and a token.
export function askForKeys() {
  const ask = (close) => {
    const input = h("input", { type: "password", autocomplete: "off", required: true });
    const entering = action(async () => {
      const key = input.value;
      input.value = "";
      await logIn(key);
      close();
    });
    const go = h("div.buttons", h("button.primary", { type: "submit" }, "Go on"));
    return form(entering.run, field("API key", input, KEY_HINT), problemLine(entering.problem), go);
  };
  const again = () => locked.peek() && dialog("This server asks for an API key", ask).then(again);
  effect(() => locked.value && again());
}

const PLACES = { s: ["sessions"], a: ["approvals"], r: ["record"] };
const KEYS = {
  "?": "this help",
  "g s, g a, g r": "sessions, approvals, the record",
  n: "a new session",
  "/": "search, or write a message",
  "j, k": "the next, the one before",
  Enter: "open what is marked; send a message",
  "Shift+Enter": "a new line in a message",
  Escape: "leave a field, close a dialog",
};

export function showHelp() {
  const lines = Object.entries(KEYS).map(([key, meaning]) => h("div", h("dt", h("kbd", key)), h("dd", meaning)));
  const api = h("p.hint", "The API that this page is made from: ", h("a", { href: "/schema" }, "/schema"));
  dialog("Keys", (close) => [h("dl.keys", lines), api, h("div.buttons", button("Close", () => close()))]);
  return true;
}

// Keys act on the page, and not while somebody writes.
export function listenForKeys() {
  let before = null;
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    const writing = target.closest?.("input, textarea, select");
    if (writing && key === "Escape") target.blur();
    if (writing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const place = before === "g" ? PLACES[key] : null;
    before = key;
    if (place) go(place);
    if (place || pressed(key)) event.preventDefault();
  });
}

function pressed(key) {
  if (key === "?") return showHelp();
  if (key === "/") return focusOn(document.querySelector("main [data-search], main textarea"));
  const start = key === "n" && document.querySelector("main [data-new]");
  if (start) start.click();
  if (key !== "j" && key !== "k") return Boolean(start);
  const all = [...document.querySelectorAll("main article, main .row > a, main .events a")];
  const at = all.indexOf(document.activeElement?.closest("article, .row > a, .events a"));
  return focusOn(all[at < 0 ? 0 : at + (key === "j" ? 1 : -1)]);
}

function focusOn(element) {
  element?.focus();
  element?.scrollIntoView?.({ block: "nearest" });
  return Boolean(element);
}
