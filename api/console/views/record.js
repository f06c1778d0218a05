// The record: the events of a session, or of the whole log, newest first and live; and one of them, whole, with its
// proof, checked in this browser.

import { h, onEnd, signal } from "../core/reactive.js";
import { get, request } from "../client/http.js";
import { EventLog } from "../client/log.js";
import {
  action, actorName, ago, brief, copyButton, erasedLine, facts, field, form, full, heading, link, loaded, plainText, pretty, problemLine, short, stamp, watch, words,
} from "../parts/common.js";
import { VirtualList } from "../parts/virtual.js";
import { canHash, checkProof, isSignedBy, readCheckpoint, readKey } from "../proof/check.js";

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
  const types = () => KINDS[kind.value].length && { types: KINDS[kind.value] };
  again();
  onEnd(() => log.left.abort());
  return [
    heading(
      session ? "Record of a session" : "The record",
      session && link(["sessions", session], {}, "Conversation"),
      h("span.controls", kind, h("label.check", live, "live"), copyButton(() => curl(log.path, { limit: 100, ...types() }), "Copy as curl")),
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
  const row = link(["events", session, String(version)], {}, cells, h("span.quiet", actorName(actor)), stamp(at));
  return h("li", row, copyButton(() => curlOf(event), "curl", `Copy event ${position} as curl`));
}

// A command that asks the API for the same.
function curl(path, query) {
  return `curl -s '${location.origin}${path}?${new URLSearchParams(query)}' -H "Authorization: Bearer $MANENT_API_KEY"`;
}

const curlOf = ({ session_id: id, version }) => curl(`/api/sessions/${id}/events`, { after: version - 1, limit: 1 });

// What an event says, on one line: its words, or by whom and why they were erased, or else its facts.
function briefly({ facts: told, body, erased }) {
  const text = body?.content?.find?.(({ type }) => type === "text")?.text;
  const said = text ?? body?.reason ?? body?.detail ?? body?.title;
  if (erased) return h("i", `words erased by ${actorName(erased.actor)}`, erased.reason && [": ", words(erased.reason)]);
  if (said) return words(said.slice(0, BRIEF_CHARS));
  const known = Object.entries(told).filter(([, value]) => value !== null);
  return words(brief(known.map(([name, value]) => `${name} ${brief(value)}`).join(", "), BRIEF_CHARS));
}

const textOf = (path) => request("GET", path).then((answer) => answer.text());
const toldKeys = async () => (await textOf("/api/log/key")).split("\n").filter(Boolean);

// The newest checkpoint: its size, its age, and whether the server's own key signed it.
function checkpointLine() {
  const [shown, now] = [signal(null), signal(Date.now())];
  const look = async () => {
    now.value = Date.now();
    const note = readCheckpoint(await textOf("/api/log/checkpoint"));
    const told = canHash() ? await toldKeys() : [];
    const signed = await Promise.all(told.map(async (key) => isSignedBy(note, await readKey(key))));
    const { items } = await get("/api/events", { after: note.size - 1, limit: 1 });
    shown.value = { note, signed: signed.includes(true), covers: items[0]?.recorded_at };
  };
  watch(() => look().catch(() => {}), AGAIN_MS);
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

const INSECURE = `Browsers hash and verify on secure pages only. Open the console over HTTPS, or on the server's own
  machine at http://127.0.0.1; or check with a program that you trust:`;
const UNSIGNED = "Without it the signature is compared with the key that this server tells: that shows consistency, and no signer.";
let pasted = ""; // a verifier key that somebody brought: for this page, and nowhere kept

export function eventView([session, version]) {
  return loaded(async () => {
    const { items } = await get(`/api/sessions/${session}/events`, { after: version - 1, limit: 1 });
    const [event] = items;
    if (event?.version !== Number(version)) throw new Error("The session has no event of this version.");
    return event;
  }, whole);
}

function whole(event) {
  const { session_id: session, version, position, type, actor, recorded_at: at, body, erased } = event;
  const links = [
    link(["sessions", session], { at: version }, "Conversation"),
    link(["sessions", session, "record"], {}, "Record"),
    copyButton(() => curlOf(event), "Copy as curl"),
    copyButton(() => location.href, "Copy link"),
  ];
  const code = (value) => value && h("code", value);
  return [
    heading(type, h("span.figures", h("span", `position ${position}`), h("span", `version ${version}`)), h("nav.actions", links)),
    proofSection(event),
    h("h2", "Words"),
    erased ? erasedLine(erased) : body === null ? h("p.quiet", "None.") : pretty(body),
    h("h2", "Facts"),
    pretty(event.facts),
    h("h2", "Envelope"),
    facts([
      ["Recorded", stamp(at, full)],
      ["By", actorName(actor)],
      ["Event", code(event.id)],
      ["Session", code(session)],
      ["Because of", code(event.causation_id)],
      ["Request", code(event.correlation_id)],
      ["Commitment", code(event.commitment)],
      ["Leaf hash", code(event.leaf_hash)],
    ]),
  ];
}

function proofSection(event) {
  const checked = signal(null);
  const path = `/api/sessions/${event.session_id}/events/${event.version}/proof`;
  const placeholder = "name+hash+key";
  const input = h("input", { type: "text", dir: "ltr", spellcheck: "false", value: pasted, placeholder });
  const checking = action(async () => {
    pasted = input.value.trim();
    checked.value = await checkProof(event, await get(path), { pasted: pasted || null, told: await toldKeys() });
  });
  checking.run();
  const commands = `manent proof ${event.session_id} ${event.version}\nmanent verify --key 'NAME+HASH+KEY'`;
  const elsewhere = () => [h("p", INSECURE), copyButton(() => commands, "Copy", "Copy the commands"), plainText(commands, "Commands")];
  const here = () => form(checking.run, field("Verifier key, got from somebody you trust", input, UNSIGNED), h("div.buttons", h("button", { type: "submit" }, "Check again")));
  return h("section.proof", problemLine(checking.problem, checking.run), () => checked.value && result(checked.value), canHash() ? here() : elsewhere());
}

const SIGNS = { good: "✓", bad: "✗", gone: "–", unchecked: "?" };
const NAMES = { good: "holds", bad: "does not hold", gone: "erased", unchecked: "not checked" };

function result({ steps, state, text }) {
  const line = ({ name, state: own, text: told }) =>
    h("li", { class: own }, h("span.sign", { role: "img", "aria-label": NAMES[own] }, SIGNS[own]), h("b", name), told);
  return [h("p.verdict", { class: state, role: "status" }, text), h("ol.steps", steps.map(line))];
}
