// Server-sent events from the body of an answer (WHATWG HTML, section 9.2).

// Gives the events of each piece that arrives, together; a comment is `{ comment }`.
export async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = {};
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      const events = [];
      for (const line of lines) event = readLine(line, event, events);
      yield events;
    }
  } finally {
    reader.cancel().catch(() => {}); // it may have failed already
  }
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
