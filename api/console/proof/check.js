// Checking that an event is on record, here and not by asking the server whether it is right: its words against the
// commitment, the commitment in the leaf, the leaf in the tree, the tree under a signature.

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

const ED25519 = 1;
const SIGNATURE = /^\u2014 ([^\s+]+) ([A-Za-z0-9+/]+={0,2})$/;

export const leafHash = (leaf) => sha256(Uint8Array.of(0), utf8(leaf));

// The root that a path leads to from a leaf (RFC 9162, section 2.1.3.2); null where it cannot lead to one.
export async function rootOf(hash, index, size, path) {
  if (!Number.isSafeInteger(index) || !Number.isSafeInteger(size) || index < 0 || index >= size) return null;
  let [node, last, root] = [index, size - 1, hash];
  for (const next of path) {
    if (last === 0) return null;
    if (node % 2 === 1 || node === last) {
      root = await sha256(Uint8Array.of(1), next, root);
      while (node % 2 === 0 && node !== 0) [node, last] = [node / 2, Math.floor(last / 2)];
    } else {
      root = await sha256(Uint8Array.of(1), root, next);
    }
    [node, last] = [Math.floor(node / 2), Math.floor(last / 2)];
  }
  return last === 0 ? root : null;
}

// A signed note that states a checkpoint: its text, what that states, and who signed. Throws for what is none.
export function readCheckpoint(note) {
  const end = note.lastIndexOf("\n\n");
  const text = note.slice(0, end + 1);
  const lines = note.slice(end + 2).split("\n");
  if (end < 0 || lines.pop() !== "" || !lines.length) throw new Error("not a signed note");
  const signatures = lines.map((line) => {
    const match = SIGNATURE.exec(line);
    if (!match) throw new Error("not a signature line");
    const data = fromBase64(match[2]);
    return { name: match[1], keyId: hexOf(data.slice(0, 4)), signature: data.slice(4) };
  });
  const [origin, size, root] = text.split("\n");
  if (!origin || !/^(?:0|[1-9]\d{0,15})$/.test(size ?? "")) throw new Error("not a checkpoint");
  return { text, origin, size: Number(size), root: hexOf(fromBase64(root)), signatures };
}

// A verifier key: `name+hash+key`. Throws for what is none.
export async function readKey(text) {
  const [, name, keyId, key] = /^([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})$/.exec(text.trim()) ?? [];
  if (!name) throw new Error("A verifier key is written name+hash+key.");
  const data = fromBase64(key);
  if (data.length !== 33 || data[0] !== ED25519) throw new Error("Not a key of type Ed25519.");
  if (hexOf((await sha256(utf8(`${name}\n`), data)).slice(0, 4)) !== keyId) throw new Error("The key's hash is not its own.");
  return { name, keyId, public: data.slice(1), text: text.trim() };
}

// Whether a checkpoint has a good signature by a key; null where this browser cannot tell.
export async function isSignedBy(checkpoint, key) {
  const mine = checkpoint.signatures.filter(({ name, keyId }) => name === key.name && keyId === key.keyId);
  if (!mine.length) return false;
  let imported;
  try {
    imported = await crypto.subtle.importKey("raw", key.public, { name: "Ed25519" }, false, ["verify"]);
  } catch {
    return null;
  }
  for (const { signature } of mine) {
    if (!(await crypto.subtle.verify({ name: "Ed25519" }, imported, signature, utf8(checkpoint.text)))) return false;
  }
  return true;
}

export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`);
  return `{${members.join()}}`;
}

export const utf8 = (text) => new TextEncoder().encode(text);

export function joined(...parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export function hexOf(bytes) {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function fromHex(text) {
  if (!/^(?:[0-9a-f]{2})*$/.test(text)) throw new Error("not hexadecimal");
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

// Standard base64, written in the one way there is.
export function fromBase64(text) {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  if (toBase64(bytes) !== text) throw new Error("not base64");
  return bytes;
}

export function toBase64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}

export async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", joined(...parts)));
}
