// Signals and effects, elements made by functions, and lists that keep their nodes.
//
// A signal holds a value. An effect is a function that is run again when a signal that it has read gets another value.
// A scope owns the effects that are made in it; when it ends they end with it, and so do the scopes inside.

let running = null; // the effect that runs now, and is told what it reads
let scope = null; // what is made now belongs to it
let waiting = null; // the effects that run when a batch is over

export function signal(value) {
  const readers = new Set();
  return {
    get value() {
      if (running) {
        readers.add(running);
        running.reads.add(readers);
      }
      return value;
    },
    set value(next) {
      if (Object.is(next, value)) return;
      value = next;
      batch(() => {
        for (const reader of readers) waiting.add(reader);
      });
    },
    peek: () => value,
    update(change) {
      this.value = change(value);
    },
  };
}

// Runs a function and only then the effects of all that it changed, each once.
export function batch(change) {
  if (waiting) return change();
  waiting = new Set();
  try {
    const result = change();
    flush();
    return result;
  } finally {
    waiting = null;
  }
}

function flush() {
  let failure = null;
  for (let runs = 0; waiting.size; runs++) {
    if (runs > 100_000) throw new Error("effects change what they read, without an end");
    const [next] = waiting;
    waiting.delete(next);
    try {
      next.run();
    } catch (error) {
      failure ??= error;
    }
  }
  if (failure) throw failure;
}

export function effect(work) {
  const self = { reads: new Set(), end: null, ended: false };
  const forget = () => {
    for (const readers of self.reads) readers.delete(self);
    self.reads.clear();
    self.end?.();
    self.end = null;
  };
  self.run = () => {
    if (self.ended) return;
    forget();
    const before = running;
    running = self;
    try {
      [, self.end] = inScope(work);
    } finally {
      running = before;
    }
  };
  onEnd(() => {
    self.ended = true;
    waiting?.delete(self);
    forget();
  });
  self.run();
}

// What a function reads inside does not make the effect around it run again.
export function untracked(work) {
  const before = running;
  running = null;
  try {
    return work();
  } finally {
    running = before;
  }
}

// Runs a function in a scope of its own: its result, and a function that ends the scope.
export function inScope(work) {
  const own = { ends: [] };
  const before = scope;
  scope = own;
  const end = () => {
    const ends = own.ends.splice(0);
    for (const each of ends.reverse()) untracked(each);
  };
  try {
    return [work(), end];
  } catch (error) {
    end();
    throw error;
  } finally {
    scope = before;
  }
}

export function onEnd(work) {
  scope?.ends.push(work);
}

// --- elements --------------------------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "rect", "line", "path", "circle", "g"]);
const PROPERTIES = new Set(["value", "checked", "disabled", "selected", "open", "indeterminate", "hidden", "multiple"]);
const REFUSED = /^(style|srcdoc|srcset|innerhtml|outerhtml|formaction|action)$/i;
const ADDRESSES = { href: /^(#|\/(?!\/)|https?:\/\/|mailto:|blob:)/i, src: /^blob:/ };

// An element: `h("button.small", { onclick, disabled: () => busy.value }, "Send")`. A function as a property or child is
// run again when what it reads changes. Text becomes text nodes, whatever it says.
export function h(name, ...rest) {
  const dot = name.indexOf(".");
  const [tag, own] = dot < 0 ? [name, ""] : [name.slice(0, dot), name.slice(dot + 1).replaceAll(".", " ")];
  const element = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  if (own) element.setAttribute("class", own);
  const properties = rest[0] && Object.getPrototypeOf(rest[0]) === Object.prototype ? rest.shift() : null;
  append(element, rest);
  for (const key in properties) setProperty(element, key, properties[key], own);
  return element;
}

function setProperty(element, key, value, classes) {
  if (key.startsWith("on")) {
    if (value) element.addEventListener(key.slice(2), (event) => batch(() => value(event)));
  } else if (typeof value === "function") {
    effect(() => assign(element, key, value(), classes));
  } else {
    assign(element, key, value, classes);
  }
}

function assign(element, key, value, classes) {
  if (REFUSED.test(key)) throw new Error(`the console sets no ${key}`);
  if (PROPERTIES.has(key)) {
    if (element[key] !== value) element[key] = value ?? "";
  } else if (value === null || value === undefined || value === false) {
    element.removeAttribute(key);
  } else {
    const text = key === "class" ? `${classes} ${value}`.trim() : value === true ? "" : String(value);
    if (ADDRESSES[key] && !ADDRESSES[key].test(text)) throw new Error(`not an address for ${key}: ${text}`);
    element.setAttribute(key, text);
  }
}

export function append(parent, child) {
  if (child === null || child === undefined || child === false || child === true) return;
  if (Array.isArray(child)) for (const each of child) append(parent, each);
  else if (child instanceof Node) parent.append(child);
  else if (typeof child === "function") appendLive(parent, child);
  else parent.append(String(child));
}

// A child that is made anew whenever what it reads changes. Where it is text before and after, the node stays.
function appendLive(parent, make) {
  const [begin, end] = [document.createTextNode(""), document.createTextNode("")];
  let text = null;
  parent.append(begin, end);
  effect(() => {
    const made = make();
    const plain = typeof made === "string" || typeof made === "number";
    if (plain && text) {
      text.data = String(made);
      return;
    }
    while (begin.nextSibling !== end) begin.nextSibling.remove();
    text = plain ? document.createTextNode(String(made)) : null;
    const fragment = document.createDocumentFragment();
    untracked(() => append(fragment, text ?? made));
    end.before(fragment);
  });
}

// A list whose items keep their nodes as long as their keys are there. `render` is given a signal of the item.
export function each(parent, items, keyOf, render) {
  const shown = new Map();
  effect(() => {
    const wanted = items();
    untracked(() => reconcile(parent, shown, wanted, keyOf, render));
  });
  onEnd(() => {
    for (const entry of shown.values()) entry.end();
  });
  return parent;
}

function reconcile(parent, shown, wanted, keyOf, render) {
  const keys = new Set(wanted.map(keyOf));
  for (const [key, entry] of shown) {
    if (keys.has(key)) continue;
    entry.end();
    entry.node.remove();
    shown.delete(key);
  }
  let next = parent.firstChild;
  for (const item of wanted) {
    const key = keyOf(item);
    let entry = shown.get(key);
    if (entry) entry.item.value = item;
    else {
      const own = signal(item);
      const [node, end] = inScope(() => render(own, key));
      entry = { node, end, item: own };
      shown.set(key, entry);
    }
    if (entry.node === next) next = next.nextSibling;
    else parent.insertBefore(entry.node, next);
  }
}
