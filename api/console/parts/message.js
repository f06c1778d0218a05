// One message of a conversation, its blocks and images, and the notes between messages.

import { each, effect, h, onEnd } from "../core/reactive.js";
import { may } from "../client/http.js";
import { MarkdownText, outsideLink } from "../markdown/nodes.js";
import {
  actorName, brief, button, clock, copyButton, count, duration, erasedLine, folded, laidOut, link, money, plainText, pretty, quiet, short, stamp, words,
} from "./common.js";
import { toBase64 } from "../proof/check.js";

const ROLES = { user: "User", assistant: "Assistant", tool: "Tool", system: "System" };
const USUAL = new Set(["end_turn", "tool_use"]);

export function messageView(item, view) {
  const { message, blocks } = item;
  const known = (show) => () => message.value && show(message.value, view);
  const roleOf = ({ role }) => ROLES[role] ?? role;
  const name = () => (message.value ? `${roleOf(message.value)}, ${clock(message.value.created_at)}` : "An answer that comes");
  const own = { class: () => message.value?.role ?? "assistant", "aria-label": name, tabindex: -1 };
  const body = each(h("div.body"), () => blocks.value, (block) => block, (_, block) => h("div.block", blockView(block, view)));
  return h(
    "article.message",
    own,
    h("header", () => (message.value ? head(message.value, view) : [h("b", "Assistant"), h("span.writing", "is writing")])),
    body,
    known(({ erased }) => erased && erasedLine(erased)),
    known(({ complete }) => !complete && h("p.cut", "This answer was cut off here.")),
    known(foot),
  );
}

function head(message, view) {
  const { role, actor, created_at: time, model } = message;
  const who = role === "user" && actor !== "local" && h("span", actorName(actor));
  return [h("b", ROLES[role] ?? role), who, model && h("code.model", model), stamp(time, clock), actions(message, view)];
}

function actions(message, view) {
  const { session_id: session, version, turn_id: turn, role } = message;
  const writes = may("chat") && view.edit;
  return h(
    "span.actions",
    view.siblings?.(message),
    writes && role === "user" && quiet("Edit", () => view.edit(message)),
    writes && role === "assistant" && quiet("Answer again", () => view.regenerate(message)),
    turn && link(["turns", turn], {}, "What the model saw"),
    link(["events", session, String(version)], {}, "Proof"),
  );
}

// Why an answer stopped, and below the last one of a turn what the turn took.
function foot(message, { conversation }) {
  if (message.role !== "assistant") return null;
  const turn = message.turn_id && conversation.turn(message.turn_id).value;
  const reason = message.stop_reason;
  const told = reason && (USUAL.has(reason) ? h("span", reason) : h("b.reason", `stopped: ${reason}`));
  const figures = turn?.last === message.id ? figuresOf(turn) : [];
  return (told || figures.length > 0) && h("footer", told, figures.map((figure) => h("span", figure)));
}

function figuresOf({ usage: { input_tokens: sent, output_tokens: given }, costs, duration_ms: took, first_chunk_ms: first, attempts }) {
  const figures = [
    sent !== null && `${count(sent)} in`,
    given !== null && `${count(given)} out`,
    money(costs),
    took !== null && duration(took),
    first !== null && `first word after ${duration(first)}`,
    attempts.length > 1 && `${attempts.length} requests`,
  ];
  return figures.filter(Boolean);
}

export function noteView(item, view) {
  const { type, session_id: session, version, recorded_at: at } = item.event;
  const told = h("p", { class: type.replace(".", "-") }, sentence(item.event), " ", stamp(at, clock));
  const record = h("span.actions", link(["events", session, String(version)], {}, "Proof"));
  const retry = () => view.isLast(item) && may("chat") && retries(type, view);
  return h("div.between", { tabindex: -1, role: "note" }, h("div", told, record), retry);
}

const SENTENCES = {
  "turn.failed": (_, { code }, body) => [h("b", "The answer failed"), " ", h("code", code), " ", body?.detail && words(body.detail)],
  "turn.cancelled": (who) => `The answer was stopped by ${who}.`,
  "turn.interrupted": (_, { reason }) => [h("b", "The answer was interrupted"), reason === "shutdown" ? ": the server was shut down." : ": the server was lost."],
  "tool.approved": (who, _, body) => [`${who} approved the call`, because(body)],
  "tool.refused": (who, _, body) => [`${who} refused the call`, because(body)],
  "body.erased": (who, { targets }, body) => [`${who} erased the words of ${targets.length} events`, because(body)],
  "session.archived": (who) => `${who} archived the session.`,
  "session.restored": (who) => `${who} restored the session.`,
  "session.updated": (who, facts) => `${who} changed ${facts.changed.map((name) => change(name, facts[name])).join(", ")}.`,
};

const sentence = ({ type, facts, body, actor }) => SENTENCES[type]?.(actorName(actor), facts, body) ?? type;
const because = (body) => (body?.reason ? [": ", words(body.reason)] : ".");

function change(name, value) {
  if (name === "system") return "the system prompt";
  const plain = value === undefined || typeof value === "object";
  return plain ? name.replaceAll("_", " ") : `${name.replaceAll("_", " ")} to ${value}`;
}

function retries(type, view) {
  if (!["turn.failed", "turn.cancelled", "turn.interrupted"].includes(type)) return null;
  const partial = view.messages().at(-1)?.complete === false;
  const again = button("Try again", () => view.start({}));
  return h("div.buttons", partial && button("Continue the answer", () => view.start({ continue: true })), again);
}

export function blockView(block, view) {
  if (block.type === "text") return markdown(block);
  if (block.type === "thinking") return thinking(block);
  if (block.type === "tool_use") return call(block);
  if (block.type === "tool_result") return result(block.raw, view);
  if (block.type === "image") return image(block.raw);
  return unknown(block);
}

function markdown(block) {
  const host = h("div.words");
  const text = new MarkdownText(host);
  effect(() => text.set(block.text.value, block.complete.value));
  return host;
}

function thinking(block) {
  return h("details.thinking", h("summary", () => (block.complete.value ? "Thinking" : "Thinking …")), markdown(block));
}

function call(block) {
  const name = h("code", block.name ?? "tool");
  const summary = h("summary", "Calls ", name, " ", h("span.brief", () => brief(block.text.value)));
  const readable = () => (block.complete.value ? laidOut(block.text.value) : block.text.value);
  return h("details.call", summary, copyButton(readable, "Copy", "Copy arguments"), plainText(readable, "Arguments"));
}

function result(raw, view) {
  const content = Array.isArray(raw.content) ? raw.content : [{ type: "text", text: String(raw.content ?? "") }];
  const text = content.map((each) => (each.type === "text" ? each.text : `[${each.type}]`)).join("\n");
  const name = view.toolName(raw.tool_use_id);
  const summary = [raw.is_error ? "Error " : "Result ", name && h("code", name), " ", h("span.brief", words(brief(text)))];
  const shown = (each) => (each.type === "text" ? plainText(each.text) : each.type === "image" ? image(each) : pretty(each));
  const build = () => [copyButton(() => text, "Copy", "Copy result"), ...content.map(shown)];
  return folded(summary, build, { class: raw.is_error ? "result failed" : "result" });
}

function image(raw) {
  const source = raw?.source ?? {};
  if (source.type === "url") return h("p.image", "Image: ", outsideLink(source.url, null, source.url));
  const shown = imageOf(source, "Image in the message");
  return shown ? h("figure.image", shown) : unknown({ type: "image", raw });
}

function unknown({ type, raw }) {
  const size = raw ? `, ${short(JSON.stringify(raw).length)} characters` : "";
  return folded([`Block of type `, h("code", type), size], () => pretty(raw), { class: "raw" });
}

export const IMAGE_TYPES = ["image/png", "image/jpeg", "image/gif", "image/webp"];

// An image from base64; null for what is of no known type or no base64.
export function imageOf({ media_type: type, data }, alt) {
  if (!IMAGE_TYPES.includes(type) || typeof data !== "string") return null;
  let bytes;
  try {
    bytes = Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0));
  } catch {
    return null;
  }
  const url = URL.createObjectURL(new Blob([bytes], { type }));
  onEnd(() => URL.revokeObjectURL(url));
  return h("img", { src: url, alt, loading: "lazy" });
}

// The content block of an image file.
export async function blockOf(file) {
  if (!IMAGE_TYPES.includes(file.type)) throw new Error(`${file.name || "This file"} is no PNG, JPEG, GIF or WebP.`);
  const data = toBase64(new Uint8Array(await file.arrayBuffer()));
  return { type: "image", source: { type: "base64", media_type: file.type, data } };
}
