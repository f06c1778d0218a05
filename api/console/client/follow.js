// Following a stream to its end, whatever happens on the way: a connection that breaks, a server that restarts, a
// machine that sleeps, a tab that is put away. It is taken up again after the last id that was read.

import { batch } from "../core/reactive.js";
import { request } from "./http.js";

const PACE_MS = 100; // nobody reads faster than that: what comes meanwhile is given, and shown, together
const SILENCE_MS = 45_000; // the server breaks every silence after 15 s
const LOOK_MS = 5000;
const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 5000;
const HIDDEN_MS = 20_000; // a hidden tab gives its connection back: a browser has six for a host

// `onEvent` is given each event once, in order; a true answer ends it. `onState` is told "live" and "lost". Throws the
// problem of a stream that cannot be followed. Gives the id of the last event.
export async function follow(path, { after = null, query, onEvent, onState, signal }) {
  let wait = FIRST_WAIT_MS;
  let last = after;
  let mistake = null;
  const take = (event) => {
    if (event.comment !== undefined || event.type === "error") return false;
    wait = FIRST_WAIT_MS;
    try {
      const over = onEvent(event);
      last = event.id ?? last;
      return over;
    } catch (error) {
      mistake = error;
      throw error;
    }
  };
  while (!signal.aborted) {
    if (document.hidden) await comesBack(signal);
    const connection = new AbortController();
    const watch = guard(connection);
    try {
      const headers = { accept: "text/event-stream", ...(last === null ? {} : { "last-event-id": String(last) }) };
      const answer = await request("GET", path, { query, headers, signal: AbortSignal.any([signal, connection.signal]) });
      if (answer.status === 204) return last;
      onState?.("live");
      for await (const events of eventsOf(answer.body)) {
        watch.heard = Date.now();
        if (batch(() => events.some(take))) return last;
      }
    } catch (problem) {
      if (mistake || (problem.status !== undefined && !problem.passes)) throw problem;
    } finally {
      clearInterval(watch.timer);
      connection.abort();
    }
    if (signal.aborted || document.hidden) continue;
    onState?.("lost");
    await comesBack(signal, wait);
    wait = Math.min(LONGEST_WAIT_MS, wait * 2);
  }
  return last;
}

// Ends a connection on which nothing is heard any more, or that a hidden tab holds.
function guard(connection) {
  const watch = { heard: Date.now(), seen: Date.now() };
  watch.timer = setInterval(() => {
    if (!document.hidden) watch.seen = Date.now();
    if (Date.now() - watch.heard > SILENCE_MS || Date.now() - watch.seen > HIDDEN_MS) connection.abort();
  }, LOOK_MS);
  return watch;
}

// Waits until the person or the network comes back, or for a while at the most.
function comesBack(signal, ms = null) {
  return new Promise((resolve) => {
    const over = new AbortController();
    const done = () => {
      over.abort();
      resolve();
    };
    if (ms !== null) setTimeout(done, ms);
    document.addEventListener("visibilitychange", done, { signal: over.signal });
    window.addEventListener("online", done, { signal: over.signal });
    signal.addEventListener("abort", done, { signal: over.signal });
  });
}

// Gives the events of what has come, together; a comment is `{ comment }`.
export async function* eventsOf(body) {
  const reader = body.getReader();
  const come = { text: "", over: false, failure: null, heard: () => {} };
  gather(reader, come);
  let rest = "";
  let event = {};
  try {
    for (;;) {
      if (!come.text && !come.over) await new Promise((resolve) => Object.assign(come, { heard: resolve }));
      if (!come.text && come.failure) throw come.failure;
      if (!come.text) return;
      const lines = (rest + come.text).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      come.text = "";
      const events = [];
      for (const line of lines) event = readLine(line, event, events);
      yield events;
      await new Promise((resolve) => setTimeout(resolve, PACE_MS));
    }
  } finally {
    reader.cancel().catch(() => {}); // it may have failed already
  }
}

async function gather(reader, come) {
  const decoder = new TextDecoder();
  try {
    for (let piece; !(piece = await reader.read()).done; come.heard()) come.text += decoder.decode(piece.value, { stream: true });
  } catch (error) {
    come.failure = error;
  }
  come.over = true;
  come.heard();
}

function readLine(line, event, events) {
  if (line === "") {
    if (event.data !== undefined) events.push({ type: event.event ?? "message", id: event.id, data: event.data });
    return {};
  }
  const colon = line.indexOf(":");
  if (colon === 0) {
    events.push({ comment: line.slice(1).trim() });
    return event;
  }
  const name = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
  if (name === "data") event.data = event.data === undefined ? value : `${event.data}\n${value}`;
  else if (name === "id" || name === "event") event[name] = value;
  return event;
}
