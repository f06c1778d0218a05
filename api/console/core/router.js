// Views by address: `#/sessions/ID?at=12`. The part behind # is never sent to a server. And what a browser keeps.

import { signal } from "./reactive.js";

export const route = signal(read());

addEventListener("hashchange", () => {
  if (location.hash === "" || location.hash.startsWith("#/")) route.value = read();
});

function read() {
  const [path, query] = location.hash.slice(1).split("?");
  let parts = ["nowhere"];
  try {
    parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    // an address that nobody wrote
  }
  return { parts: parts.length ? parts : ["sessions"], query: new URLSearchParams(query ?? "") };
}

export function address(parts, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const path = `#/${parts.map(encodeURIComponent).join("/")}`;
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

export function go(parts, query) {
  location.hash = address(parts, query);
}

// Changes the address of the view that is shown, which stays.
export function stay(parts, query) {
  history.replaceState(null, "", address(parts, query));
}

const PREFIX = "manent.";
const MAX_CHARS = 200_000;

export function recall(name) {
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null; // a browser that keeps nothing
  }
}

export function remember(name, value) {
  try {
    if (value === null || value === "" || value.length > MAX_CHARS) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, value);
  } catch {
    // it is kept on the page only
  }
}
