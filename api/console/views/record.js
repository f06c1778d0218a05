// The record: the events of a session, or of the whole log, newest first and live.

import { actorName, ago, short } from "../core/format.js";
import { h, onEnd, signal } from "../core/reactive.js";
import { get, request } from "../client/http.js";
import { EventLog } from "../client/log.js";
import { heading, link, problemLine, stamp, words } from "../parts/common.js";
import { copyButton } from "../parts/copy.js";
import { VirtualList } from "../parts/virtual.js";
import { canHash } from "../proof/check.js";
import { isSignedBy, readCheckpoint, readKey } from "../proof/log.js";

const AGAIN_MS = 15_000;
const BRIEF_CHARS = 160;
const KINDS = {
  "all events": [],
  messages: ["message.appended", "message.pinned", "message.unpinned"],
  turns: ["started", "paused", "resumed", "completed", "failed", "cancelled", "interrupted"].map((end) => `turn.${end}`),
  requests: ["attempt.started", "attempt.ended"],
  tools: ["tool.called", "tool.returned", "tool.approved", "tool.refused"],
  sessions: ["started", "updated", "forked", "archived", "restored"].map((end) => `session.${end}`),
  erasures: ["body.erased"],
};

export function recordView([session = null]) {
  const log = new EventLog(session);
  const list = new VirtualList(h("ol.events"), {
    label: "Events",
    items: () => log.items.value,
    keyOf: ({ position }) => position,
    render: (event) => eventRow(event.peek()),
    guess: 34,
    onEnd: () => log.older(),
  });
  const again = () => log.begin(KINDS[kind.value], live.checked);
  const kind = h("select", { "aria-label": "Which events", onchange: again }, Object.keys(KINDS).map((name) => h("option", name)));
  const live = h("input", { type: "checkbox", checked: true, onchange: again });
  const address = () => `${location.origin}${log.path}?limit=100${kind.value === "all events" || !log.filtered ? "" : `&types=${KINDS[kind.value]}`}`;
  const curl = () => `curl -s '${address()}' -H "Authorization: Bearer $MANENT_API_KEY"`;
  again();
  onEnd(() => log.close());
  return [
    heading(
      session ? "Record of a session" : "The record",
      session && link(["sessions", session], {}, "Conversation"),
      h("span.controls", kind, h("label.check", live, "live"), copyButton(curl, "Copy as curl")),
    ),
    !session && checkpointLine(),
    problemLine(log.problem, again),
    () => log.complete.value && !log.items.value.length && h("p.empty", "No such event."),
    list.element,
  ];
}

function eventRow(event) {
  const { position, version, type, actor, recorded_at: at, session_id: session } = event;
  const cells = [h("span.right", String(position)), h("code.type", type), h("span.brief", briefly(event))];
  return h("li", link(["events", session, String(version)], {}, cells, h("span.quiet", actorName(actor)), stamp(at)));
}

// What an event says, on one line.
function briefly({ facts, body, erased }) {
  const text = body?.content?.find?.(({ type }) => type === "text")?.text;
  const said = text ?? body?.reason ?? body?.detail ?? body?.title;
  if (erased) return h("i", "words erased");
  if (said) return words(said.slice(0, BRIEF_CHARS));
  return facts.name ?? facts.outcome ?? facts.code ?? facts.model ?? facts.changed?.join(", ") ?? "";
}

// The newest checkpoint: its size, its age, and whether the server's own key signed it.
function checkpointLine() {
  const [shown, now] = [signal(null), signal(Date.now())];
  const text = (path) => request("GET", path).then((answer) => answer.text());
  const look = async () => {
    now.value = Date.now();
    const note = readCheckpoint(await text("/api/log/checkpoint"));
    const told = canHash() ? (await text("/api/log/key")).split("\n").filter(Boolean) : [];
    const signed = await Promise.all(told.map(async (key) => isSignedBy(note, await readKey(key))));
    const { items } = await get("/api/events", { after: note.size - 1, limit: 1 });
    shown.value = { note, signed: signed.includes(true), covers: items[0]?.recorded_at };
  };
  const every = setInterval(() => !document.hidden && look().catch(() => {}), AGAIN_MS);
  onEnd(() => clearInterval(every));
  look().catch(() => {});
  return h("p.checkpoint", () => {
    if (!shown.value) return "No checkpoint is signed yet.";
    const { note, signed, covers } = shown.value;
    const unsigned = canHash() ? "not signed by a key of this server" : "not checked: this page is not served securely";
    const by = signed ? "signed by the key that this server tells" : unsigned;
    const age = covers ? `, the last of them ${ago(covers, now.value)}` : "";
    const root = [h("code", note.root.slice(0, 16)), "… ", copyButton(() => note.root, "Copy the root")];
    return ["Newest checkpoint: ", h("b", `${short(note.size)} events`), `${age}, ${by}. `, root];
  });
}
