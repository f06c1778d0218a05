// Figures and times as people read them.

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

export function bytes(value) {
  if (value < 1024) return `${value} B`;
  return value < 1 << 20 ? `${(value / 1024).toFixed(1)} KB` : `${(value / (1 << 20)).toFixed(1)} MB`;
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
