// The tree of a log (RFC 6962), its signed checkpoints, and the keys that sign them (C2SP signed-note).

import { fromBase64, hexOf, sha256, utf8 } from "./canonical.js";

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
