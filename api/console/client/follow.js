// Following a stream to its end, whatever happens on the way: a connection that breaks, a server that restarts, a
// machine that sleeps, a tab that is put away. It is taken up again after the last id that was read.

import { batch } from "../core/reactive.js";
import { request } from "./http.js";
import { eventsOf } from "./sse.js";

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
        watch.heard();
        if (batch(() => events.some(take))) return last;
      }
    } catch (problem) {
      if (mistake || (problem.status !== undefined && !problem.passes)) throw problem;
    } finally {
      watch.end();
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
  let [heard, seen] = [Date.now(), Date.now()];
  const look = setInterval(() => {
    const now = Date.now();
    if (!document.hidden) seen = now;
    if (now - heard > SILENCE_MS || now - seen > HIDDEN_MS) connection.abort();
  }, LOOK_MS);
  const hear = () => {
    heard = Date.now();
  };
  return { heard: hear, end: () => clearInterval(look) };
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
