// Views by address: `#/sessions/ID?at=12`. The part behind # is never sent to a server.

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
