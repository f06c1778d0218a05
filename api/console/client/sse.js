// Server-sent events from the body of an answer (WHATWG HTML, section 9.2).

const PACE_MS = 60; // nobody reads faster than that: what comes meanwhile is given, and shown, together

// Gives the events of what has come, together; a comment is `{ comment }`.
export async function* eventsOf(body) {
  const reader = body.getReader();
  const come = { text: "", over: false, failure: null, heard: () => {} };
  take(reader, come);
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

async function take(reader, come) {
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
