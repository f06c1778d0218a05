// What stands behind the label of a link, and characters that are written in another way.

const NAMED = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };
const MAX_PARENTHESES = 32;
const MAX_TITLE_CHARS = 2000;

// Addresses that would run something: no link has one.
export const SCRIPTED = /^\s*(?:vbscript|javascript|file|data):/i;

// What stands in parentheses behind a label: `(href "title")`; null where that is none.
export function readTarget(text, start) {
  if (text[start] !== "(") return null;
  let pos = afterSpace(text, start + 1);
  const target = readDestination(text, pos);
  if (target && SCRIPTED.test(target.text)) return null;
  pos = target?.end ?? pos;
  const gap = afterSpace(text, pos);
  const title = gap > pos ? readTitle(text, gap) : null;
  pos = title ? afterSpace(text, title.end) : gap;
  return text[pos] === ")" ? { href: target?.text ?? "", title: title?.text || null, end: pos + 1 } : null;
}

function afterSpace(text, pos) {
  while (text[pos] === " " || text[pos] === "\t" || text[pos] === "\n") pos++;
  return pos;
}

function readDestination(text, start) {
  if (text[start] === "<") {
    const match = /<((?:[^\\<>\n]|\\.)*)>/y;
    match.lastIndex = start;
    const found = match.exec(text);
    return found && { text: unescaped(found[1]), end: start + found[0].length };
  }
  let depth = 0;
  let pos = start;
  for (; pos < text.length && text[pos] > " " && text[pos] !== "\x7f"; pos++) {
    if (text[pos] === "\\" && text[pos + 1] > " ") pos++;
    else if (text[pos] === "(" && ++depth > MAX_PARENTHESES) return null;
    else if (text[pos] === ")" && --depth < 0) break;
  }
  return pos === start || depth > 0 ? null : { text: unescaped(text.slice(start, pos)), end: pos };
}

function readTitle(text, start) {
  const close = { '"': '"', "'": "'", "(": ")" }[text[start]];
  if (!close) return null;
  for (let pos = start + 1; pos < text.length && pos - start < MAX_TITLE_CHARS; pos++) {
    if (text[pos] === close) return { text: unescaped(text.slice(start + 1, pos)), end: pos + 1 };
    if (text[pos] === "(" && close === ")") return null;
    if (text[pos] === "\\") pos++;
  }
  return null;
}

const WRITTEN = /\\([!-/:-@[-`{-~])|&(?:#x([a-f\d]{1,6})|#(\d{1,7})|(amp|lt|gt|quot|apos|nbsp));/gi;

function unescaped(text) {
  return text.replace(WRITTEN, (whole, sign, ...entity) => sign ?? decoded([whole, ...entity]));
}

const BAD = /[\0-\x08\x0b\x0e-\x1f\x7f-\x9f]/;

// The character of an entity: a match of its hexadecimal or decimal number, or its name.
export function decoded([whole, hex, decimal, name]) {
  if (name) return NAMED[name] ?? whole;
  const code = hex ? parseInt(hex, 16) : Number(decimal);
  if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return "\ufffd";
  const character = String.fromCodePoint(code);
  return BAD.test(character) ? "\ufffd" : character;
}
