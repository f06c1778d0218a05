// The keys of the keyboard, and help with them.

import { h } from "../core/reactive.js";
import { go } from "../core/router.js";
import { button, dialog } from "./common.js";

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
