// A text of Markdown on the page: whole, or as it grows. It is lexed and shown on animation frames, a few milliseconds
// of each, so that neither a long text nor many deltas keep the page from answering.

import { onEnd } from "../core/reactive.js";
import { Markdown } from "./blocks.js";
import { MarkdownView } from "./nodes.js";

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
