// One event of the record, whole, and its proof, checked in this browser.

import { actorName, full } from "../core/format.js";
import { h, signal } from "../core/reactive.js";
import { get, request } from "../client/http.js";
import {
  action, erasedLine, facts, field, form, heading, link, loaded, plainText, pretty, problemLine, stamp,
} from "../parts/common.js";
import { copyButton } from "../parts/copy.js";
import { canHash, checkProof } from "../proof/check.js";

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
  const links = [link(["sessions", session], { at: version }, "Conversation"), link(["sessions", session, "record"], {}, "Record")];
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
    const keys = request("GET", "/api/log/key").then((answer) => answer.text());
    const told = (await keys).split("\n").filter(Boolean);
    checked.value = await checkProof(event, await get(path), { pasted: pasted || null, told });
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
