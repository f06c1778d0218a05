// Small pieces that most views are made of.

import { append, h, inScope, onEnd, signal } from "../core/reactive.js";
import { address } from "../core/router.js";
import { Problem } from "../client/http.js";

export function link(parts, query, ...children) {
  return h("a", { href: address(parts, query) }, children);
}

export function button(label, onclick, properties = {}) {
  return h("button", { type: "button", onclick, ...properties }, label);
}

export const quiet = (label, onclick, properties = {}) => button(label, onclick, { class: "quiet", ...properties });

export function stamp(time, show = moment) {
  return h("time", { datetime: time, title: `${full(time)} (${time})` }, show(time));
}

// Words of somebody: their direction is their own, and ends with them.
export function words(text, tag = "bdi") {
  return h(tag, { dir: "auto" }, text);
}

export function plainText(text, label = "Text", properties = { dir: "auto" }) {
  return h("pre.plain", { tabindex: 0, role: "group", "aria-label": label, ...properties }, text);
}

// JSON that is complete is laid out, anything else is shown as it came.
export function laidOut(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

export function brief(value, most = 80) {
  const text = typeof value === "string" ? value : JSON.stringify(value ?? null);
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

// Does something now, and again and again while somebody looks.
export function watch(look, every) {
  const timer = setInterval(() => !document.hidden && look(), every);
  onEnd(() => clearInterval(timer));
  look();
}

export const pretty = (value) => plainText(JSON.stringify(value, null, 2), "JSON", { dir: "ltr" });

export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value === 0 || value);
  return h("dl.facts", shown.map(([name, value]) => h("div", h("dt", name), h("dd", value))));
}

// What is unfolded when somebody asks for it is made then.
export function folded(summary, build, properties = {}) {
  const body = h("div.folded");
  let end;
  onEnd(() => end?.());
  const ontoggle = (event) => {
    if (event.target.open && !end) [, end] = inScope(() => append(body, build()));
  };
  return h("details", { ...properties, ontoggle }, h("summary", summary), body);
}

let fields = 0;
export function field(label, control, hint = null) {
  const input = control.querySelector("input") ?? control;
  input.id ||= `field${++fields}`;
  return h("div.field", h("label", { for: input.id }, label), control, hint && h("p.hint", hint));
}

// A form that does something, instead of going somewhere.
export function form(work, ...children) {
  const onsubmit = (event) => {
    event.preventDefault();
    work(event.target);
  };
  return h("form", { onsubmit }, children);
}

export function heading(title, ...children) {
  return h("div.heading", h("h1", title), children);
}

// What went wrong, in a line, and a way to try again where that may help.
export function problemLine(problem, retry = null) {
  return () => {
    const found = problem.value;
    if (!found) return null;
    const ours = found instanceof Problem;
    const again = retry && (!ours || found.passes || found.code === "version_conflict");
    const code = ours && found.status > 0 && h("code", found.code);
    return h("p.problem", { role: "alert" }, words(found.message), " ", code, again && button("Try again", retry));
  };
}

// Something that is done once at a time; its problem is shown where it is asked for.
export function action(work) {
  const [busy, problem] = [signal(false), signal(null)];
  const run = async (...given) => {
    if (busy.peek()) return undefined;
    busy.value = true;
    problem.value = null;
    try {
      return await work(...given);
    } catch (error) {
      problem.value = error;
      return undefined;
    } finally {
      busy.value = false;
    }
  };
  return { run, busy, problem };
}

// A page of what is read at first, and again when `again` is called; it shows what `show` makes of that.
export function loaded(read, show, tag = "div.page") {
  const found = signal(null);
  const reading = action(async () => {
    found.value = await read();
  });
  reading.run();
  return h(tag, problemLine(reading.problem, reading.run), () => found.value && show(found.value, reading.run));
}

// Who erased words, when, and why.
export function erasedLine(erased) {
  const { actor, at, reason } = erased;
  const why = reason ? [": ", words(reason)] : ".";
  return h("p.erased", `The words were erased by ${actorName(actor)}`, ", ", stamp(at), why);
}

// A modal dialog; `build` is given what closes it. What is returned resolves with what it was closed with.
export function dialog(title, build) {
  return new Promise((resolve) => {
    const before = document.activeElement;
    let result;
    const close = (value) => {
      result = value;
      box.close();
    };
    const [box, end] = inScope(() => h("dialog", { "aria-label": title }, h("h2", title), build(close)));
    box.addEventListener("close", () => {
      end();
      box.remove();
      before?.focus?.();
      resolve(result);
    });
    document.body.append(box);
    box.showModal();
  });
}

const SHOWN_MS = 1600;

export async function copy(text) {
  if (navigator.clipboard && isSecureContext) {
    try {
      await navigator.clipboard.writeText(text);
      return;
    } catch {
      // refused: by selection, then
    }
  }
  const area = h("textarea.offscreen", { value: text, readonly: true, "aria-hidden": "true", tabindex: -1 });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser does not let the page copy");
}

// A button that copies what `give` gives, and says that it has.
export function copyButton(give, label = "Copy", name = label) {
  const said = signal(null);
  const onclick = async () => {
    try {
      await copy(give());
      said.value = "Copied";
    } catch {
      said.value = "Not copied";
    }
    setTimeout(() => said.update(() => null), SHOWN_MS);
  };
  return h("button.quiet.copy", { type: "button", onclick, "aria-label": name }, () => said.value ?? label);
}

const number = new Intl.NumberFormat();
const timeOfDay = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const dayAndYear = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const count = (value) => (value === null || value === undefined ? "–" : number.format(value));

// 1,234 as it is, larger ones in thousands or millions.
export function short(value) {
  if (value === null || value === undefined) return "–";
  if (value < 10_000) return number.format(value);
  return value < 1_000_000 ? `${Math.round(value / 1000)}k` : `${(value / 1_000_000).toFixed(1)}M`;
}

export function plural(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const minutes = Math.floor(ms / 60_000);
  return minutes < 60 ? `${minutes} min ${Math.round((ms % 60_000) / 1000)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// Costs by currency, from millionths; what was estimated is said to be.
export function money(costs) {
  return (costs ?? []).map(({ currency, micros, estimated }) => {
    const digits = micros === 0 ? 2 : micros < 10_000 ? 5 : micros < 1_000_000 ? 4 : 2;
    const options = { style: "currency", currency, minimumFractionDigits: 2, maximumFractionDigits: digits };
    return `${estimated ? "≈ " : ""}${new Intl.NumberFormat(undefined, options).format(micros / 1e6)}`;
  }).join(" + ");
}

// The time of today, the day of other days.
export function moment(text) {
  const [time, now] = [new Date(text), new Date()];
  if (time.toDateString() === now.toDateString()) return timeOfDay.format(time);
  return (time.getFullYear() === now.getFullYear() ? day : dayAndYear).format(time);
}

export const clock = (text) => timeOfDay.format(new Date(text));
export const full = (text) => whole.format(new Date(text));

export function ago(text, now = Date.now()) {
  const seconds = Math.max(0, (now - new Date(text)) / 1000);
  if (seconds < 60) return `${Math.round(seconds)} s ago`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86_400)} days ago`;
}

// An actor as people read it: whose key, or who else.
export function actorName(actor) {
  if (actor === "local") return "local user";
  return actor?.startsWith("key:") ? actor.slice(4) : actor?.startsWith("turn:") ? "the turn" : actor;
}
