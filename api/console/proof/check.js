// Checking that an event is on record, here and not by asking the server whether it is right: its words against the
// commitment, the commitment in the leaf, the leaf in the tree, the tree under a signature.

import { canonical, fromBase64, fromHex, hexOf, sha256 } from "./canonical.js";
import { isSignedBy, leafHash, readCheckpoint, readKey, rootOf } from "./log.js";

const UNCHECKED = "unchecked";

// Whether this browser can hash at all: it cannot on a page that came over plain HTTP from another machine.
export const canHash = () => globalThis.crypto?.subtle !== undefined;

// The steps, in order, each `{ name, state, text }`, and a verdict. `state` is good, bad, gone (erased words) or
// unchecked. `pasted` is a verifier key that somebody brought; `told` are those that the server tells.
export async function checkProof(event, proof, { pasted = null, told = [] } = {}) {
  if (!canHash()) return verdictOf([], pasted);
  const steps = [];
  const step = async (name, work) => {
    try {
      steps.push({ name, ...(await work()) });
    } catch (error) {
      steps.push({ name, state: "bad", text: error.message });
    }
  };
  await step("Words", () => checkWords(event, proof));
  await step("Leaf", () => checkLeaf(event, proof));
  await step("Path", () => checkPath(proof));
  await step("Checkpoint", () => checkCheckpoint(proof));
  await step("Signature", () => checkSignature(proof, pasted, told));
  return verdictOf(steps, pasted);
}

const good = (text) => ({ state: "good", text });
const bad = (text) => ({ state: "bad", text });

async function checkWords(event, { salt, body_base64: body, leaf }) {
  if (salt === undefined) return { state: UNCHECKED, text: "The server does not give what ties the words to the leaf." };
  if (salt === null) return { state: "gone", text: "The words were erased; the record of them stands." };
  const bytes = fromBase64(body);
  const { commitment, length } = JSON.parse(leaf);
  if (bytes.length !== length) return bad(`The words have ${bytes.length} bytes, and the leaf says ${length}.`);
  if (hexOf(await sha256(fromHex(salt), bytes)) !== commitment) return bad("The words are not those of the commitment.");
  const said = bytes.length ? JSON.parse(new TextDecoder().decode(bytes)) : null;
  if (canonical(said) !== canonical(event.body)) return bad("The words are others than those shown.");
  return good(`SHA-256 of salt and ${length} bytes is the commitment in the leaf.`);
}

async function checkLeaf(event, { leaf, leaf_hash: hash }) {
  const read = JSON.parse(leaf);
  if (canonical(read) !== leaf) return bad("The leaf is not canonical JSON.");
  const shown = {
    ...{ position: event.position, session: event.session_id, version: event.version, type: event.type },
    ...{ actor: event.actor, id: event.id, schema: event.schema, commitment: event.commitment },
    ...{ causation: event.causation_id, correlation: event.correlation_id, recorded_at: microsOf(event.recorded_at) },
  };
  for (const [name, value] of Object.entries(shown)) {
    if (read[name] !== value) return bad(`${name} is ${read[name]} in the leaf, and ${value} in the event shown.`);
  }
  if (canonical(event.facts) !== canonical(read.facts)) return bad("The facts in the leaf are others than those shown.");
  if (hexOf(await leafHash(leaf)) !== hash) return bad("The leaf's hash is another.");
  return good("The leaf says what is shown, and hashes to what is in the tree.");
}

async function checkPath({ leaf, position, index, size, hashes, root }) {
  if (index !== position - 1 || JSON.parse(leaf).position !== position) return bad("The index is not the event's place.");
  const found = await rootOf(await leafHash(leaf), index, size, hashes.map(fromHex));
  if (!found || hexOf(found) !== root) return bad("The path does not lead to the root.");
  return good(`${hashes.length} hashes lead from the leaf to the root of ${size} events.`);
}

async function checkCheckpoint({ checkpoint, size, root, leaf }) {
  const stated = readCheckpoint(checkpoint);
  const { origin } = JSON.parse(leaf);
  if (stated.size !== size || stated.root !== root) return bad("The checkpoint states another size or root.");
  if (stated.origin !== origin) return bad("The checkpoint is another log's, or the log was renamed since.");
  return good(`It states ${size} events and this root, for ${origin}.`);
}

async function checkSignature({ checkpoint }, pasted, told) {
  const stated = readCheckpoint(checkpoint);
  const keys = await Promise.all((pasted ? [pasted] : told).map(readKey));
  const own = keys.filter(({ name }) => name === stated.origin);
  if (!own.length) return bad("There is no key of this log.");
  const answers = await Promise.all(own.map((key) => isSignedBy(stated, key)));
  if (answers.includes(null)) return { state: UNCHECKED, text: "This browser does not know Ed25519." };
  if (!answers.includes(true)) return bad("The checkpoint is not signed by that key.");
  const { name, keyId } = own[answers.indexOf(true)];
  return good(pasted ? `Signed by ${name}+${keyId}.` : `Good by the key that this server tells (${keyId}).`);
}

// RFC 3339 with microseconds, as the integer that is hashed.
function microsOf(text) {
  const [, seconds, fraction] = /^(.+?)(?:\.(\d{1,6}))?Z$/.exec(text) ?? [];
  return Date.parse(`${seconds}Z`) * 1000 + Number((fraction ?? "").padEnd(6, "0"));
}

function verdictOf(steps, pasted) {
  const states = steps.map(({ state }) => state);
  if (!steps.length) return { steps, state: UNCHECKED, text: "Nothing was checked: this page is not served securely." };
  if (states.includes("bad")) return { steps, state: "bad", text: "This does not prove what is shown." };
  if (states.includes(UNCHECKED)) return { steps, state: UNCHECKED, text: "Not all of it could be checked here." };
  if (!pasted) return { steps, state: "good", text: "Consistent, signer not checked." };
  return { steps, state: "good", text: `Consistent, and ${steps.at(-1).text[0].toLowerCase()}${steps.at(-1).text.slice(1)}` };
}
