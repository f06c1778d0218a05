// What the browser keeps for this origin: drafts, choices, and the console's token. Never a key.

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
