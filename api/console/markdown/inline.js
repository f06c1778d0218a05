// Inline Markdown (CommonMark): the text of a paragraph, heading or cell as tokens. A text that has grown is lexed again
// only from the first place that what follows could still change.

import { Runs, scanRun } from "./emphasis.js";
import { trimmed } from "./lines.js";
import { SCRIPTED, decoded, readTarget } from "./targets.js";

const SPECIAL = /[\n\\`*_[\]!<&]/g;
const ESCAPABLE = /[!-/:-@[-`{-~]/;
const ENTITY = /&(?:#x([a-f\d]{1,6})|#(\d{1,7})|(amp|lt|gt|quot|apos|nbsp));/iy;
const AUTOLINK = /<([a-z][a-z\d+.-]{1,31}:[^\s<>\0-\x20]*)>/iy;
const EMAIL = /<([\w.!#$%&'*+/=?^`{|}~-]+@[a-z\d](?:[a-z\d-]{0,61}[a-z\d])?(?:\.[a-z\d](?:[a-z\d-]{0,61}[a-z\d])?)*)>/iy;
const UNCLOSED = /<[^\s<>]*$/y;
const MAX_CHARS = 65_536; // a longer text is shown as it stands

// `before` is what an earlier call gave for an earlier text, or nothing. `count` tokens are settled, up to `offset`.
export function lexInline(text, before) {
  if (before?.text === text) return before;
  if (text.length > MAX_CHARS) return { text, tokens: [{ type: "text", text }], count: 0, offset: 0 };
  const grown = before?.count > 0 && text.startsWith(before.text);
  const lexer = new Lexer(text, grown ? before.offset : 0);
  const fresh = lexer.tokens();
  const kept = grown ? before.tokens.slice(0, before.count) : [];
  if (kept.at(-1)?.type === "text" && fresh[0]?.type === "text") {
    const first = kept.pop();
    fresh[0] = { ...first, text: first.text + fresh[0].text };
  }
  const tokens = kept.concat(fresh);
  const count = lexer.firstUndecided(tokens);
  return { text, tokens, count, offset: tokens[count]?.at ?? 0 };
}

class Lexer {
  constructor(text, from) {
    this.text = text;
    this.from = from;
    this.pos = from;
    this.pieces = []; // text, nodes, runs of * and _, brackets and their ends, in order
    this.brackets = []; // those that are still open
    this.runs = new Runs(); // those that may still match
    this.open = Infinity; // the first place that what follows the text could change
    this.ticks = null; // length of a run of backticks -> where the last such run begins
  }

  tokens() {
    const { text } = this;
    while (this.pos < text.length) {
      SPECIAL.lastIndex = this.pos;
      const end = SPECIAL.exec(text)?.index ?? text.length;
      if (end > this.pos) this.say(text.slice(this.pos, end), this.pos);
      this.pos = end;
      if (end < text.length) this.special(text[end]);
    }
    for (const bracket of this.brackets) this.undecided(bracket.at);
    this.undecided(this.runs.match(null));
    return this.build();
  }

  // The index of the first token that what follows the text could change: the last one at least.
  firstUndecided(tokens) {
    let index = Math.max(0, tokens.length - 1);
    while (index > 0 && (tokens[index].at > this.open || this.isWithinRun(tokens[index].at))) index--;
    return index;
  }

  isWithinRun(at) {
    const sign = this.text[at];
    return (sign === "*" || sign === "_") && this.text[at - 1] === sign;
  }

  undecided(place) {
    this.open = Math.min(this.open, place);
  }

  say(text, at) {
    this.pieces.push({ kind: "text", text, at });
  }

  node(node) {
    this.pieces.push({ kind: "node", node: { ...node, at: this.pos } });
  }

  special(sign) {
    if (sign === "\n") this.newline();
    else if (sign === "\\") this.escape();
    else if (sign === "`") this.code();
    else if (sign === "*" || sign === "_") this.run(sign);
    else if (sign === "[") this.bracket(false);
    else if (sign === "]") this.close();
    else if (sign === "<") this.autolink();
    else if (sign === "&") this.entity();
    else if (this.text[this.pos + 1] === "[") this.bracket(true);
    else this.literal(1);
  }

  literal(length) {
    this.say(this.text.slice(this.pos, this.pos + length), this.pos);
    this.pos += length;
  }

  newline() {
    const last = this.pieces.at(-1);
    if (last?.kind === "text") last.text = trimmed(last.text, / /, false);
    this.node({ type: this.text.slice(this.pos - 2, this.pos) === "  " ? "break" : "newline" });
    this.pos++;
    this.skip(/[ \t]/);
  }

  skip(what) {
    while (this.pos < this.text.length && what.test(this.text[this.pos])) this.pos++;
  }

  escape() {
    const next = this.text[this.pos + 1];
    if (next === "\n") {
      this.node({ type: "break" });
      this.pos += 2;
      this.skip(/[ \t]/);
    } else if (next && ESCAPABLE.test(next)) {
      this.say(next, this.pos);
      this.pos += 2;
    } else {
      this.literal(1);
    }
  }

  entity() {
    ENTITY.lastIndex = this.pos;
    const match = ENTITY.exec(this.text);
    if (!match) return this.literal(1);
    this.say(decoded(match), this.pos);
    this.pos += match[0].length;
  }

  code() {
    const { text, pos } = this;
    const length = runLength(text, pos);
    const end = this.closingTicks(pos + length, length);
    if (end < 0) {
      this.undecided(pos);
      return this.literal(length);
    }
    const inside = text.slice(pos + length, end).replaceAll("\n", " ");
    const padded = inside.startsWith(" ") && inside.endsWith(" ") && /[^ ]/.test(inside);
    this.node({ type: "code", text: padded ? inside.slice(1, -1) : inside });
    this.pos = end + length;
    if (this.pos === text.length) this.undecided(pos);
  }

  closingTicks(from, length) {
    if (!this.ticks) {
      this.ticks = new Map();
      for (const match of this.text.matchAll(/`+/g)) this.ticks.set(match[0].length, match.index);
    }
    if ((this.ticks.get(length) ?? -1) < from) return -1;
    const found = /`+/g;
    found.lastIndex = from;
    for (let match; (match = found.exec(this.text)); ) if (match[0].length === length) return match.index;
    return -1;
  }

  autolink() {
    AUTOLINK.lastIndex = EMAIL.lastIndex = UNCLOSED.lastIndex = this.pos;
    const link = AUTOLINK.exec(this.text);
    const match = link ?? EMAIL.exec(this.text);
    if (!match || SCRIPTED.test(match[1])) {
      if (UNCLOSED.test(this.text)) this.undecided(this.pos);
      return this.literal(1);
    }
    const children = [{ type: "text", text: match[1] }];
    this.node({ type: "link", href: (link ? "" : "mailto:") + match[1], title: null, children });
    this.pos += match[0].length;
  }

  // --- brackets ---

  bracket(image) {
    const piece = { kind: "bracket", image, active: true, link: null, at: this.pos, run: this.runs.newest };
    this.pieces.push(piece);
    this.brackets.push(piece);
    this.pos += image ? 2 : 1;
  }

  close() {
    const bracket = this.brackets.pop();
    if (bracket && this.open < Infinity) this.undecided(bracket.at); // what is undecided could take this sign along
    const link = bracket?.active ? readTarget(this.text, this.pos + 1) : null;
    if (!link) {
      const next = this.text[this.pos + 1];
      if (bracket?.active && (next === "(" || next === undefined)) this.undecided(bracket.at);
      return this.literal(1);
    }
    this.runs.match(bracket.run);
    bracket.link = { type: bracket.image ? "image" : "link", href: link.href, title: link.title };
    this.pieces.push({ kind: "end" });
    if (!bracket.image) for (const outer of this.brackets) outer.active &&= outer.image;
    this.pos = link.end;
  }

  run(sign) {
    const piece = scanRun(this.text, this.pos, sign);
    this.pieces.push(piece);
    this.runs.push(piece);
    this.pos += piece.size;
  }

  build() {
    const stack = [{ children: [] }];
    const push = (node) => {
      const { children } = stack.at(-1);
      const last = children.at(-1);
      if (node.type === "text" && last?.type === "text") last.text += node.text;
      else if (node.type !== "text" || node.text) children.push(node);
    };
    const open = (node) => {
      push(node);
      stack.push(node);
    };
    for (const piece of this.pieces) {
      const { kind, at } = piece;
      if (kind === "text") push({ type: "text", text: piece.text, at });
      else if (kind === "node") push(piece.node);
      else if (kind === "end") stack.pop();
      else if (kind === "run") {
        let place = at;
        for (const used of piece.closes) {
          stack.pop();
          place += used;
        }
        push({ type: "text", text: piece.sign.repeat(piece.count), at: place });
        place += piece.count;
        for (const used of piece.opens) {
          open({ type: used === 2 ? "strong" : "em", children: [], at: place });
          place += used;
        }
      } else if (piece.link) open({ ...piece.link, children: [], at });
      else push({ type: "text", text: piece.image ? "![" : "[", at });
    }
    return stack[0].children;
  }
}

function runLength(text, from) {
  let end = from;
  while (text[end] === text[from]) end++;
  return end - from;
}
