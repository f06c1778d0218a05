// A tree of Markdown as nodes of the page. What is shown already stays: only what differs is made anew.
//
// Nothing here reads markup: words become text nodes, whatever they say. Links lead outside, and images are links too.

import { h, onEnd } from "../core/reactive.js";
import { Markdown } from "./blocks.js";
import { copyButton } from "../parts/common.js";

const OUTSIDE = /^(?:https?:\/\/|mailto:)/i;

export class MarkdownView {
  constructor(host) {
    this.host = host;
    this.shown = [];
  }

  show(root) {
    syncBlocks(this.host, this.shown, root.children);
  }
}

// Nodes that are closed stand before those that are not: what is settled is walked over once.
function syncBlocks(host, shown, nodes) {
  let index = shown.length;
  while (index > 0 && !shown[index - 1].settled) index--;
  for (; index < nodes.length; index++) {
    const node = nodes[index];
    let entry = shown[index];
    if (!entry || (entry.node !== node && shapeOf(entry.node) !== shapeOf(node))) {
      drop(shown, index);
      entry = makeBlock(node);
      shown.push(entry);
      host.append(entry.element);
    }
    updateBlock(entry, node);
  }
  drop(shown, nodes.length);
}

function drop(shown, from) {
  if (from >= shown.length) return;
  for (const entry of shown.splice(from)) entry.element.remove();
}

// Two nodes of one shape can be shown in the same element.
function shapeOf({ type, level, ordered, start, info, align }) {
  return [type, level, ordered, start, info, align?.join()].join("|");
}

function makeBlock(node) {
  const entry = { node: null, settled: false, shown: [] };
  const only = (element, host = element) => Object.assign(entry, { element, host });
  if (node.type === "paragraph") return only(h("p", { dir: "auto" }));
  if (node.type === "heading") return only(h(`h${Math.min(6, node.level + 2)}.level${node.level}`, { dir: "auto" }));
  if (node.type === "quote") return only(h("blockquote"));
  if (node.type === "item") return only(h("li"));
  if (node.type === "rule") return only(h("hr"));
  if (node.type === "list") return only(node.ordered ? h("ol", { start: node.start }) : h("ul"));
  if (node.type === "table") {
    const [head, body] = [h("thead"), h("tbody")];
    const frame = { tabindex: 0, role: "group", "aria-label": "Table" };
    return only(h("div.table", frame, h("table", head, body)), { head, body });
  }
  const text = document.createTextNode("");
  const language = node.info?.split(/\s/)[0] ?? "";
  const bar = h("figcaption", h("span", language), copyButton(() => text.data, "Copy", "Copy code"));
  const frame = { tabindex: 0, role: "group", "aria-label": language ? `Code, ${language}` : "Code" };
  return only(h("figure.code", bar, h("pre", frame, h("code", { dir: "ltr" }, text))), text);
}

function updateBlock(entry, node) {
  const { host, shown } = entry;
  if (node.inline) syncInline(host, shown, node.inline.tokens);
  else if (node.type === "code") setText(entry, host, node.text.endsWith("\n") ? node.text.slice(0, -1) : node.text);
  else if (node.type === "table") syncRows(host, shown, node);
  else if (node.children) syncBlocks(host, shown, node.children);
  if (node.type === "list") entry.element.classList.toggle("loose", node.loose);
  entry.node = node;
  entry.settled = node.closed;
}

// What a node says is kept beside it: to ask the page for it takes longer.
function setText(entry, node, value) {
  const before = entry.text;
  if (before === value) return;
  if (before && value.startsWith(before)) node.appendData(value.slice(before.length));
  else node.data = value;
  entry.text = value;
}

function syncRows({ head, body }, shown, { rows, align }) {
  rows.forEach((cells, index) => {
    let entry = shown[index];
    if (!entry) {
      const tag = index ? "td" : "th";
      const made = cells.map((_, at) => h(tag, { class: align[at] ?? "", dir: "auto", scope: index ? null : "col" }));
      entry = { element: h("tr", made), cells: made.map((element) => ({ element, shown: [] })), row: null };
      shown.push(entry);
      (index ? body : head).append(entry.element);
    }
    if (entry.row === cells) return;
    cells.forEach((cell, at) => syncInline(entry.cells[at].element, entry.cells[at].shown, cell.tokens));
    entry.row = cells;
  });
  drop(shown, rows.length);
}

function syncInline(host, shown, tokens) {
  for (let index = 0; index < tokens.length; index++) {
    const token = tokens[index];
    let entry = shown[index];
    if (entry?.token === token) continue;
    const same = entry && entry.token.type === token.type && entry.token.href === token.href;
    if (!same) {
      drop(shown, index);
      entry = { element: makeInline(token), shown: [], token };
      shown.push(entry);
      host.append(entry.element);
    }
    if (token.type === "text") setText(entry, entry.element, token.text);
    else if (token.type === "code") entry.element.textContent = token.text;
    else if (token.type === "image") entry.element.textContent = `image: ${plain(token.children) || token.href}`;
    else if (token.children) syncInline(entry.element, entry.shown, token.children);
    entry.token = token;
  }
  drop(shown, tokens.length);
}

function makeInline(token) {
  if (token.type === "text") return document.createTextNode("");
  if (token.type === "newline") return document.createTextNode("\n");
  if (token.type === "break") return h("br");
  if (token.type === "link" || token.type === "image") return outsideLink(token.href, token.title);
  return h(token.type);
}

// A link that tells nobody where it was followed. What is no address of the web or of mail is shown, and leads nowhere.
export function outsideLink(href, title, ...children) {
  const hint = title ? `${title} (${href})` : href;
  if (!OUTSIDE.test(href)) return h("span.nowhere", { title: hint }, children);
  const outside = { target: "_blank", rel: "noopener noreferrer", referrerpolicy: "no-referrer" };
  return h("a", { href, title: hint, ...outside }, children);
}

function plain(tokens) {
  return tokens.map((token) => token.text ?? (token.children ? plain(token.children) : " ")).join("");
}

const SLICE_CHARS = 4096;
const FRAME_MS = 8;

// The texts that have something to show; all of them share the time of a frame.
const waiting = new Set();
let frame = 0;

function later(text) {
  waiting.add(text);
  frame ||= requestAnimationFrame(work);
}

function work() {
  const until = performance.now() + FRAME_MS;
  for (const text of waiting) {
    waiting.delete(text);
    if (text.work(until)) waiting.add(text);
    if (performance.now() >= until) break;
  }
  frame = waiting.size && requestAnimationFrame(work);
}

export class MarkdownText {
  constructor(host) {
    this.markdown = new Markdown();
    this.view = new MarkdownView(host);
    this.read = 0;
    this.finished = false;
    onEnd(() => waiting.delete(this));
  }

  // The text as far as it is known, which only grows, and whether that is all.
  set(text, complete) {
    if (this.finished) return;
    this.text = text;
    this.complete = complete;
    later(this);
  }

  // Gives true while there is more to do.
  work(until) {
    do {
      this.markdown.append(this.text.slice(this.read, this.read + SLICE_CHARS));
      this.read = Math.min(this.text.length, this.read + SLICE_CHARS);
    } while (this.read < this.text.length && performance.now() < until);
    this.finished = this.complete && this.read === this.text.length;
    if (this.finished) this.markdown.finish();
    this.view.show(this.markdown.root);
    return this.read < this.text.length;
  }
}
