// Block Markdown (CommonMark, with the tables of GFM) line by line: each line is read once, however the text comes in.
//
// `append` takes the text in pieces. A line that is not complete yet is read for the time being: before more is read,
// what it did is undone. Nodes that are `closed` change no more.

import { lexInline } from "./inline.js";
import { Cursor, alignmentOf, fenceOf, headingOf, isDelimiterRow, isRule, listMarkerOf, rowOf, trimmed } from "./lines.js";

const MAX_DEPTH = 24; // deeper containers are text
const HELD = /^[ \t>]*(?:[-=*+_#`~|:]+|\d{1,9}[.)]?)[ \t]*$/; // could still become anything: not shown while it grows

export class Markdown {
  constructor() {
    this.root = { type: "root", children: [], end: 0 };
    this.stack = [this.root];
    this.leaf = null; // the paragraph, code or table that the next line may belong to
    this.number = 0;
    this.rest = ""; // the line that is not complete
    this.saved = null; // the state before that line
    this.spare = null; // the tokens of a leaf that was undone
  }

  append(text) {
    this.undo();
    const lines = (this.rest + text).replaceAll("\0", "\ufffd").split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop();
    for (const line of lines) this.read(line);
    if (this.rest && !HELD.test(this.rest)) this.tryRest();
    if (this.leaf) this.lex(this.leaf);
    return this;
  }

  // No more comes: the last line is complete, and everything closed.
  finish() {
    this.undo();
    if (this.rest) this.read(this.rest.replace(/\r$/, ""));
    this.rest = "";
    this.closeTo(0);
    return this;
  }

  // --- a line that is not complete ---

  tryRest() {
    const { number, stack, leaf } = this;
    const marks = stack.map(({ children, end, loose }) => ({ length: children.length, end, loose }));
    this.saved = { number, stack: [...stack], marks, leaf, kept: leaf && { ...leaf, rows: leaf.rows && [...leaf.rows] } };
    this.read(this.rest.replace(/\r$/, ""));
  }

  undo() {
    const { saved } = this;
    if (!saved) return;
    this.spare = this.leaf === saved.leaf ? null : this.leaf?.inline;
    const { number, stack, marks, leaf, kept } = saved;
    Object.assign(this, { number, stack, leaf, saved: null });
    stack.forEach((node, index) => {
      node.children.length = marks[index].length;
      node.end = marks[index].end;
      if (node.type === "list") node.loose = marks[index].loose;
    });
    if (!leaf) return;
    Object.assign(leaf, kept, { inline: leaf.inline });
    stack.at(-1).children[marks.at(-1).length - 1] = leaf;
  }

  // --- a line ---

  read(text) {
    this.number++;
    const line = new Cursor(text);
    let depth = 1;
    while (depth < this.stack.length && this.continues(this.stack[depth], line)) depth++;
    const matched = depth === this.stack.length;
    if (matched && this.leaf?.type === "code" && this.continueCode(line)) return;
    const opened = this.openBlocks(line, depth, matched);
    if (opened === "done") return;
    const below = opened ? this.stack.length : depth;
    if (line.blank) this.closeTo(below);
    else this.readText(line, below, matched && !opened);
  }

  continues(container, line) {
    line.find();
    if (container.type === "list") return true;
    if (container.type === "quote") {
      const goesOn = line.indent < 4 && line.takeQuote();
      if (goesOn) for (const node of this.stack.slice(0, this.stack.indexOf(container) + 1)) node.end = this.number;
      return goesOn;
    }
    if (line.blank) return container.children.length > 0;
    if (line.indent < container.width) return false;
    line.advance(container.width);
    return true;
  }

  continueCode(line) {
    const { leaf } = this;
    line.find();
    if (leaf.fence) {
      if (line.indent < 4 && fenceEnds(leaf.fence, line.rest)) {
        this.touch();
        this.closeLeaf();
        return true;
      }
      line.advance(Math.min(leaf.fence.indent, line.indent));
      leaf.text += `${line.left()}\n`;
      this.touch();
      return true;
    }
    if (line.blank) {
      line.advance(Math.min(4, line.indent));
      leaf.blank += `${line.left()}\n`;
      return true;
    }
    if (line.indent < 4) return false;
    line.advance(4);
    leaf.text += `${leaf.blank}${line.left()}\n`;
    leaf.blank = "";
    this.touch();
    return true;
  }

  // Opens what begins on this line. Gives "done" where nothing of it is left, else whether something was opened.
  openBlocks(line, depth, matched) {
    let opened = false;
    for (;;) {
      line.find();
      if (line.blank) return opened;
      const paragraph = !opened && this.leaf?.type === "paragraph";
      const begins = () => this.closeTo(opened ? this.stack.length : depth);
      if (line.indent > 3) return paragraph ? opened : this.openCode(line, begins);
      const deep = this.stack.length >= MAX_DEPTH;
      const own = paragraph && matched;
      if (!deep && line.takeQuote()) {
        begins();
        this.push({ type: "quote", children: [] });
      } else if (this.openLeaf(line, begins, own)) {
        return "done";
      } else {
        const top = opened ? this.stack.at(-1) : this.stack[depth - 1];
        const marker = deep ? null : listMarkerOf(line, own);
        if (!marker) return opened;
        this.openItem(line, marker, top, begins);
      }
      opened = true;
    }
  }

  openCode(line, begins) {
    begins();
    line.advance(4);
    this.pushLeaf({ type: "code", info: null, fence: null, text: `${line.left()}\n`, blank: "" });
    return "done";
  }

  openLeaf(line, begins, ownParagraph) {
    const { rest } = line;
    const heading = headingOf(rest);
    const fence = heading ? null : fenceOf(rest);
    if (heading) {
      begins();
      this.pushLeaf({ type: "heading", ...heading });
      this.closeLeaf();
    } else if (fence) {
      begins();
      const { sign, size, info } = fence;
      this.pushLeaf({ type: "code", info, fence: { sign, size, indent: line.indent }, text: "" });
    } else if (ownParagraph && /^(?:=+|-+)[ \t]*$/.test(rest)) {
      const { text, inline, from } = this.leaf;
      this.stack.at(-1).children.pop();
      this.pushLeaf({ type: "heading", level: rest[0] === "=" ? 1 : 2, text, inline }, from);
      this.closeLeaf();
    } else if (isRule(rest)) {
      begins();
      this.pushLeaf({ type: "rule" });
      this.closeLeaf();
    } else {
      return false;
    }
    return true;
  }

  openItem(line, marker, top, begins) {
    begins();
    const { ordered, sign, start, width } = marker;
    if (top.type !== "list" || top.sign !== sign) {
      this.push({ type: "list", ordered, sign, start, loose: false, children: [] });
    }
    this.push({ type: "item", width: width(line), children: [] });
  }

  readText(line, depth, matched) {
    const { leaf } = this;
    const lazy = leaf?.type === "paragraph" && !matched && depth < this.stack.length;
    if (leaf?.type === "paragraph" && (matched || lazy)) {
      if (matched && isDelimiterRow(line.rest) && this.openTable(line)) return;
      leaf.text += `\n${line.rest}`;
    } else if (leaf?.type === "table" && matched) {
      leaf.rows.push(this.row(line.rest, leaf.align.length));
    } else {
      this.closeTo(depth);
      this.pushLeaf({ type: "paragraph", text: line.rest });
    }
    this.touch();
  }

  // The last line of the paragraph becomes the head of a table, if it has as many cells as the line below it.
  openTable(line) {
    const { leaf } = this;
    const at = leaf.text.lastIndexOf("\n");
    const head = leaf.text.slice(at + 1);
    const align = alignmentOf(line.rest);
    if (!align || !head.includes("|") || rowOf(head).length !== align.length) return false;
    if (at < 0) this.stack.at(-1).children.pop();
    else {
      leaf.text = leaf.text.slice(0, at);
      this.closeLeaf();
    }
    this.pushLeaf({ type: "table", align, rows: [this.row(head, align.length)] }, this.number - 1);
    return true;
  }

  row(text, length) {
    const cells = rowOf(text).slice(0, length);
    while (cells.length < length) cells.push("");
    return cells.map((cell) => lexInline(cell));
  }

  // --- the tree ---

  push(container) {
    if (container.type !== "item" && this.stack.at(-1).type === "list") this.closeTo(this.stack.length - 1);
    this.add(container);
    this.stack.push(container);
    this.touch();
  }

  // What is added to a list, and is no item of it, stands behind it.
  pushLeaf(leaf, from) {
    if (this.stack.at(-1).type === "list") this.closeTo(this.stack.length - 1);
    this.add(leaf, from);
    this.leaf = leaf;
    this.touch();
  }

  add(node, from = this.number) {
    const parent = this.stack.at(-1);
    const last = parent.children.at(-1);
    Object.assign(node, { from, end: this.number, closed: false });
    if (last && from > last.end + 1) {
      const list = parent.type === "list" ? parent : parent.type === "item" ? this.stack.at(-2) : null;
      if (list) list.loose = true;
    }
    parent.children.push(node);
  }

  touch() {
    for (const node of this.stack) node.end = this.number;
    if (this.leaf) this.leaf.end = this.number;
  }

  closeTo(depth) {
    this.closeLeaf();
    while (this.stack.length > Math.max(1, depth)) {
      const container = this.stack.pop();
      container.closed = !this.saved;
    }
    if (depth === 0) this.root.closed = true;
  }

  closeLeaf() {
    if (!this.leaf) return;
    this.lex(this.leaf);
    this.leaf.closed = !this.saved;
    this.leaf = null;
  }

  lex(leaf) {
    if (leaf.type === "paragraph" || leaf.type === "heading") {
      leaf.inline = lexInline(trimmed(leaf.text), leaf.inline ?? this.spare);
    }
  }
}

function fenceEnds({ sign, size }, rest) {
  const run = /^(`{3,}|~{3,})[ \t]*$/.exec(rest)?.[1];
  return run !== undefined && run[0] === sign && run.length >= size;
}
