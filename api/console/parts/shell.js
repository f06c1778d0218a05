// What is around every view: the way from one to another, who one is, what was said last, and asking for a key.

import { actorName } from "../core/format.js";
import { effect, h, inScope, replace, signal } from "../core/reactive.js";
import { route } from "../core/router.js";
import { get, locked, logIn, logOut, may, me } from "../client/http.js";
import { action, button, dialog, field, form, link, problemLine, quiet, watch } from "./common.js";
import { showHelp } from "./keys.js";

const WAITING_MS = 15_000;
const KEY_HINT = "It is traded for a pass of this browser, good for twelve hours. The key itself is kept nowhere.";

const said = signal("");
export const waitingCount = signal(0);

// Says something to those who do not see the page change.
export function say(text) {
  said.value = "";
  setTimeout(() => {
    said.value = text;
  }, 50);
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
    [, end] = inScope(() => replace(main, view(parts.slice(1), query)));
    document.title = `${main.querySelector("h1")?.textContent || "Manent"} – Manent`;
    const { activeElement: focused } = document;
    if (focused === document.body || !focused?.isConnected) main.focus({ preventScroll: true });
  });
  watchWaiting();
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

// Turns that wait for a person are counted while somebody looks.
function watchWaiting() {
  const look = async () => {
    if (locked.peek() || !may("chat")) return;
    const found = await get("/api/turns", { status: "requires_action", limit: 100 }).catch(() => null);
    if (found) waitingCount.value = found.items.length;
  };
  effect(() => me.value && watch(look, WAITING_MS));
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
  const until = async () => {
    while (locked.peek()) await dialog("This server asks for an API key", ask);
  };
  effect(() => locked.value && until());
}
