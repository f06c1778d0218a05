// A long list of which only what is near the eye is on the page. What is not there is a space as high as it was, or
// as it is thought to be; what somebody looks at stays where it is when things above it change.

import { each, effect, h, onEnd, signal, untracked } from "../core/reactive.js";

const BEYOND = 600; // pixels that are shown above and below what is seen
const NEAR = 1200; // that are loaded ahead
const CLOSE = 48; // to the end, for being there
const HEIGHT = Symbol("height"); // of an item, as it was measured

const sheet = new CSSStyleSheet(); // heights are rules and never attributes: the policy knows no inline style
document.adoptedStyleSheets.push(sheet);
let spaces = 0;

class Space {
  constructor() {
    const name = `space${++spaces}`;
    this.rule = sheet.cssRules[sheet.insertRule(`.${name} { height: 0 }`, sheet.cssRules.length)];
    this.element = h(`div.${name}`, { "aria-hidden": "true" });
    this.height = 0;
    onEnd(() => sheet.deleteRule([...sheet.cssRules].indexOf(this.rule)));
  }

  set(height) {
    const wanted = Math.max(0, Math.round(height));
    if (this.height === wanted) return;
    this.height = wanted;
    this.rule.style.height = `${wanted}px`;
  }
}

// `items` is a function that reads signals. `bottom`: the list begins at its end, and stays there as long as `atEnd`
// says that it is the end. `onStart` and `onEnd` ask for more.
export class VirtualList {
  constructor(list, { label, items, keyOf, render, guess, bottom = false, atEnd = () => true, ...asked }) {
    Object.assign(this, { list, items, keyOf, guess, bottom, atEnd, asked, known: 0, total: 0, frame: 0 });
    this.above = new Space();
    this.below = new Space();
    this.anchor = null;
    this.range = signal([0, 0]);
    this.sticking = signal(bottom);
    const frame = { tabindex: 0, role: "region", "aria-label": label };
    this.element = h("div.scroller", frame, this.above.element, list, this.below.element);
    this.watch(render);
  }

  watch(render) {
    const measure = new ResizeObserver((entries) => this.measured(entries));
    const box = new ResizeObserver(() => this.settle());
    each(this.list, () => this.items().slice(...this.range.value), this.keyOf, (item, key) => {
      const element = render(item, key);
      Object.assign(element, { key, item: item.peek() });
      measure.observe(element);
      onEnd(() => measure.unobserve(element));
      return element;
    });
    effect(() => {
      this.items();
      queueMicrotask(() => this.settle());
    });
    this.element.addEventListener("scroll", () => this.scrolled(), { passive: true });
    box.observe(this.element);
    this.print = matchMedia("print");
    const lay = () => this.lay();
    this.print.addEventListener("change", lay);
    onEnd(() => {
      this.ended = true;
      cancelAnimationFrame(this.frame);
      measure.disconnect();
      box.disconnect();
      this.print.removeEventListener("change", lay);
    });
  }

  // The heights of all items, 0 where one is not known: they are added up whenever somebody scrolls.
  sizesOf(all) {
    if (this.sized !== all) Object.assign(this, { sized: all, sizes: Float64Array.from(all, (item) => item[HEIGHT] ?? 0) });
    return this.sizes;
  }

  usual() {
    return this.known > 5 ? this.total / this.known : this.guess;
  }

  settle() {
    if (this.ended) return;
    if (!this.sticking.peek()) this.lay();
    this.restore();
    if (this.sticking.peek()) this.lay();
  }

  // Shows the items near what is seen (on paper all of them), and makes the spaces as high as what is not shown.
  lay() {
    untracked(() => {
      const all = this.items();
      const { scrollTop, clientHeight } = this.element;
      const seen = [scrollTop, scrollTop + clientHeight];
      const { first, last, above, under, edge } = this.near(all, seen, this.print.matches ? Infinity : BEYOND);
      this.above.set(above);
      this.below.set(under);
      const [from, to] = this.range.peek();
      if (from !== first || to !== last) this.range.value = [first, last];
      if (this.print.matches) return;
      if (seen[0] < NEAR) this.asked.onStart?.();
      if (seen[1] > edge - NEAR) this.asked.onEnd?.();
    });
  }

  near(all, seen, beyond) {
    const [from, to] = [seen[0] - beyond, seen[1] + beyond];
    let [first, last, above, under, edge] = [0, 0, 0, 0, 0];
    const [sizes, usual] = [this.sizesOf(all), this.usual()];
    for (let index = 0; index < all.length; index++) {
      const height = sizes[index] || usual;
      if (edge + height < from && index < all.length - 1) {
        first = index + 1;
        above = edge + height;
      } else if (edge < to || index === first) last = index + 1;
      else under += height;
      edge += height;
    }
    return { first, last, above, under, edge };
  }

  measured(entries) {
    for (const { target } of entries) {
      const height = target.isConnected ? target.offsetHeight : 0;
      if (!height) continue;
      const before = target.item[HEIGHT];
      if (before === undefined) this.known++;
      this.total += height - (before ?? 0);
      target.item[HEIGHT] = height;
      if (this.sized) this.sizes[this.sized.indexOf(target.item, this.range.peek()[0])] = height;
    }
    this.settle();
  }

  scrolled() {
    const { scrollTop } = this.element;
    if (scrollTop === this.pulled) return; // it was this list that scrolled
    this.pulled = null;
    const { scrollHeight, clientHeight } = this.element;
    this.sticking.value = this.bottom && this.atEnd() && scrollTop + clientHeight >= scrollHeight - CLOSE;
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.hold();
      this.settle();
    });
  }

  // Remembers the first item that is seen, and where.
  hold() {
    const edge = this.element.getBoundingClientRect().top;
    const seen = [...this.list.children].find((element) => element.getBoundingClientRect().bottom > edge);
    this.anchor = seen ? { element: seen, top: seen.getBoundingClientRect().top - edge } : null;
  }

  restore() {
    if (this.sticking.peek()) {
      this.element.scrollTop = this.element.scrollHeight;
      this.pulled = this.element.scrollTop;
      this.anchor = null;
    } else if (this.anchor?.element.isConnected) {
      const edge = this.element.getBoundingClientRect().top;
      const moved = this.anchor.element.getBoundingClientRect().top - edge - this.anchor.top;
      if (Math.abs(moved) >= 1) this.element.scrollTop += moved;
    }
  }

  toEnd() {
    this.sticking.value = this.bottom;
    this.element.scrollTop = this.element.scrollHeight;
  }

  // Brings an item to the top of what is seen.
  toKey(key) {
    const all = this.items();
    const index = all.findIndex((item) => this.keyOf(item) === key);
    this.sticking.value = false;
    this.element.scrollTop = all.slice(0, index).reduce((sum, item) => sum + (item[HEIGHT] ?? this.usual()), 0);
    this.lay();
    const element = [...this.list.children].find((child) => child.key === key);
    this.anchor = element ? { element, top: 8 } : null;
    this.restore();
    element?.focus({ preventScroll: true });
  }
}
