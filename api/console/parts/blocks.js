// The blocks of a message: text, thinking, calls of tools and their results, images, and whatever else a model gave.

import { short } from "../core/format.js";
import { effect, h } from "../core/reactive.js";
import { outsideLink } from "../markdown/nodes.js";
import { MarkdownText } from "../markdown/text.js";
import { folded, plainText, pretty, words } from "./common.js";
import { copyButton } from "./copy.js";
import { imageOf } from "./images.js";

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
  const copied = copyButton(() => readable(block), "Copy", "Copy arguments");
  return h("details.call", summary, copied, plainText(() => readable(block), "Arguments"));
}

// Arguments as they are read best: JSON that is complete is laid out, anything else shown as it came.
function readable(block) {
  const text = block.text.value;
  if (!block.complete.value) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function brief(text) {
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
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
