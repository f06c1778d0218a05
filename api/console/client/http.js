// Asking the API: JSON in and out, refusals as problems with a line for people, and pages of lists.
//
// Where a key is needed, everything that was asked waits until one was given, and is then asked again.

import { signal } from "../core/reactive.js";
import { recall, remember } from "../core/router.js";
import { hexOf } from "../proof/check.js";

const TOKEN = "token";
const TOKEN_HEADER = "x-manent-console";

let token = recall(TOKEN);
let admitted = Promise.withResolvers(); // for those who wait for a key

export const locked = signal(false); // whether the page waits for a key

// A refusal, or the server's silence (status 0). `message` is a line for people.
export class Problem extends Error {
  constructor({ status = 0, code = "unreachable", detail = "The server does not answer.", ...extra } = {}) {
    super(detail);
    Object.assign(this, { status, code, extra });
  }

  // Whether asking again later may help.
  get passes() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

export async function request(method, path, { body, query, headers, signal: abort } = {}) {
  for (;;) {
    const answer = await send(method, path, { body, query, headers, abort });
    if (answer.ok) return answer;
    const problem = await problemOf(answer);
    if (problem.status !== 401 || path === "/api/console/session") throw problem;
    locked.value = true;
    await admitted.promise;
  }
}

async function send(method, path, { body, query, headers, abort }) {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  const all = { accept: "application/json", ...headers };
  if (token) all[TOKEN_HEADER] = token;
  if (body !== undefined) all["content-type"] = "application/json";
  const options = { method, headers: all, signal: abort, cache: "no-store", redirect: "error" };
  try {
    return await fetch(url, body === undefined ? options : { ...options, body: JSON.stringify(body) });
  } catch (error) {
    if (abort?.aborted) throw error;
    throw new Problem();
  }
}

async function problemOf(answer) {
  try {
    return new Problem({ ...(await answer.json()), status: answer.status });
  } catch {
    const detail = `The server answered with ${answer.status}, and not in its own words.`;
    return new Problem({ status: answer.status, code: "not_ours", detail });
  }
}

export async function get(path, query, abort) {
  return (await request("GET", path, { query, signal: abort })).json();
}

// A write, done once however often it is sent: the same key with the same body gets the first answer again.
export async function write(method, path, body, { key, match, headers } = {}) {
  const all = { ...headers };
  if (key) all["idempotency-key"] = key;
  if (match !== undefined) all["if-match"] = `"${match}"`;
  const answer = await request(method, path, { body, headers: all });
  return answer.status === 204 ? null : answer.json();
}

export function newKey() {
  return hexOf(crypto.getRandomValues(new Uint8Array(16))); // randomUUID is there on secure pages only
}

export async function logIn(key) {
  const answer = await write("POST", "/api/console/session", { key });
  ({ token } = answer);
  remember(TOKEN, token);
  locked.value = false;
  admitted.resolve();
  admitted = Promise.withResolvers();
}

export async function logOut() {
  await request("DELETE", "/api/console/session");
  token = null;
  remember(TOKEN, null);
}

// An address that the browser can open by itself: with a ticket, where there are keys.
export async function ticketed(path, query = {}) {
  const { ticket } = await write("POST", "/api/tickets", { path });
  return `${path}?${new URLSearchParams({ ...query, ticket })}`;
}

// A list that is read a page at a time.
export class Pages {
  constructor(path, query = {}) {
    Object.assign(this, { path, query, cursor: null, version: 0 });
    this.items = signal([]);
    this.complete = signal(false);
    this.busy = signal(false);
    this.problem = signal(null);
  }

  async more() {
    if (this.busy.peek() || this.complete.peek()) return;
    const { version } = this;
    this.busy.value = true;
    this.problem.value = null;
    try {
      const page = await get(this.path, { ...this.query, cursor: this.cursor });
      if (version !== this.version) return;
      this.cursor = page.next_cursor;
      this.items.value = [...this.items.peek(), ...page.items];
      this.complete.value = page.next_cursor === null;
    } catch (problem) {
      if (version === this.version) this.problem.value = problem;
    } finally {
      if (version === this.version) this.busy.value = false;
    }
  }

  // Begins anew, for another question or for what is there now.
  async again(query = this.query) {
    Object.assign(this, { query, cursor: null, version: this.version + 1 });
    this.busy.value = false;
    this.complete.value = false;
    this.items.value = [];
    await this.more();
  }
}

export const me = signal(null);

export async function learn() {
  me.value = await get("/api/me");
}

export function may(scope) {
  return me.value?.scopes.includes(scope) ?? false;
}
