// One line of Markdown: where its text begins, counted in columns, and what it could begin.

const SPACE = /(?!\ufeff)\s/; // what JavaScript trims, but for U+FEFF

// A text without the signs at its ends that a pattern names. (Patterns with `+$` would take long over long runs.)
export function trimmed(text, what = SPACE, atStart = true) {
  let [start, end] = [0, text.length];
  while (end > start && what.test(text[end - 1])) end--;
  while (atStart && start < end && what.test(text[start])) start++;
  return text.slice(start, end);
}

export class Cursor {
  constructor(text) {
    this.text = text;
    this.offset = 0; // in characters
    this.column = 0; // in columns: a tab goes to the next multiple of four
    this.owed = 0; // columns of a tab that are not used yet
  }

  // Looks for the next character that is no space: sets `indent` (columns up to it), `rest` (from it on) and `blank`.
  find() {
    let { offset, column } = this;
    if (this.owed) {
      column += this.owed;
      offset++;
    }
    for (; offset < this.text.length; offset++) {
      const sign = this.text[offset];
      if (sign === " ") column++;
      else if (sign === "\t") column += 4 - (column % 4);
      else break;
    }
    this.indent = column - this.column;
    this.rest = this.text.slice(offset);
    this.blank = offset >= this.text.length;
  }

  advance(columns) {
    for (let left = columns; left > 0 && this.offset < this.text.length; ) {
      const tab = this.text[this.offset] === "\t";
      const width = this.owed || (tab ? 4 - (this.column % 4) : 1);
      const used = Math.min(left, width);
      this.column += used;
      left -= used;
      this.owed = width - used;
      if (!this.owed) this.offset++;
    }
  }

  // What is left of the line; a tab that was used in part gives spaces for the rest of it.
  left() {
    return this.owed ? " ".repeat(this.owed) + this.text.slice(this.offset + 1) : this.text.slice(this.offset);
  }

  // Takes `>` and one column of space behind it, if that is next.
  takeQuote() {
    if (this.rest[0] !== ">") return false;
    this.advance(this.indent + 1);
    const next = this.text[this.offset];
    if (next === " " || next === "\t") this.advance(1);
    return true;
  }
}

export function headingOf(rest) {
  const match = /^(#{1,6})(?:[ \t]+(.*))?$/s.exec(rest);
  if (!match) return null;
  const text = trimmed(match[2] ?? "", /[ \t]/);
  const before = trimmed(text, /#/, false);
  return { level: match[1].length, text: before === "" || /[ \t]$/.test(before) ? before : text };
}

export function fenceOf(rest) {
  const match = /^(`{3,})([^`]*)$/s.exec(rest) ?? /^(~{3,})(.*)$/s.exec(rest);
  return match && { sign: match[1][0], size: match[1].length, info: match[2].trim() };
}

export function isRule(rest) {
  return /^(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/.test(rest);
}

// A marker of a list; one that would interrupt a paragraph must begin with 1 and have text behind it.
export function listMarkerOf(line, inParagraph) {
  const match = /^([-+*]|(\d{1,9})([.)]))(?=[ \t]|$)(.*)$/s.exec(line.rest);
  if (!match) return null;
  const [, marker, number, sign, after] = match;
  if (inParagraph && (!after.trim() || (number !== undefined && Number(number) !== 1))) return null;
  const { indent } = line;
  return {
    ordered: number !== undefined,
    sign: sign ?? marker,
    start: number === undefined ? null : Number(number),
    width: (cursor) => widthOfItem(cursor, indent, marker.length),
  };
}

// Takes a marker and the space behind it: the columns that the item's lines are indented by.
function widthOfItem(line, indent, length) {
  line.advance(indent + length);
  line.find();
  const space = line.blank || line.indent > 4 || line.indent < 1 ? 1 : line.indent;
  line.advance(space);
  return indent + length + space;
}

export function isDelimiterRow(rest) {
  return /^[|:-][-|: \t]+$/.test(rest) && !/^-[ \t]/.test(rest);
}

// The alignment of each column, or null where the line is no row of dashes.
export function alignmentOf(rest) {
  const cells = rest.split("|").map((cell) => cell.trim());
  if (!cells[0]) cells.shift();
  if (cells.length && !cells.at(-1)) cells.pop();
  if (!cells.length || cells.some((cell) => !/^:?-+:?$/.test(cell))) return null;
  return cells.map((cell) => {
    const [left, right] = [cell.startsWith(":"), cell.endsWith(":")];
    return left && right ? "center" : right ? "right" : left ? "left" : null;
  });
}

export function rowOf(text) {
  const cells = text.trim().split(/(?<!\\)\|/);
  if (cells[0].trim() === "" && cells.length > 0) cells.shift();
  if (cells.length && cells.at(-1).trim() === "") cells.pop();
  return cells.map((cell) => cell.replaceAll("\\|", "|").trim());
}
