// A family of branches as a tree, and two sessions side by side.

import { plural } from "../core/format.js";
import { each, h, onEnd, signal } from "../core/reactive.js";
import { go } from "../core/router.js";
import { Conversation } from "../client/conversation.js";
import { get } from "../client/http.js";
import { button, heading, link, loaded, problemLine, stamp, words } from "../parts/common.js";
import { messageView, noteView } from "../parts/message.js";
import { titleOf } from "./sessions.js";

// A family as lines of a tree: each node with how deep it stands.
function treeOf(nodes, root) {
  const children = (id) => nodes.filter(({ parent }) => parent?.session_id === id);
  const walk = (node, depth) => [{ node, depth }, ...children(node.session_id).flatMap((child) => walk(child, depth + 1))];
  const first = nodes.find(({ session_id: id }) => id === root);
  return first ? walk(first, 0) : [];
}

export function branchesView([id]) {
  const chosen = signal([]);
  const choose = (session) => ({ target }) =>
    chosen.update((all) => (target.checked ? [...all, session] : all.filter((other) => other !== session)));
  const line = ({ node, depth }) => {
    const { session_id: session, parent, message_count: messages, kind } = node;
    const figures = [
      h("span", parent ? `from version ${parent.version}` : "the first"),
      h("span", plural(messages, "message")),
      kind === "replay" && h("span.flag", "replay"),
      session === id && h("span.flag", "this one"),
    ];
    const box = h("input", { type: "checkbox", "aria-label": `Compare ${titleOf(node)}`, onchange: choose(session) });
    const title = link(["sessions", session], {}, words(titleOf(node)));
    return h("li", { class: `depth${Math.min(depth, 8)}` }, box, title, h("span.figures", figures), stamp(node.updated_at));
  };
  const apart = { disabled: () => chosen.value.length !== 2 };
  const compare = button("Compare two", () => go(["compare", ...chosen.peek()]), apart);
  const tree = ({ nodes, root }) => [heading("Branches", h("nav.actions", compare)), h("ol.tree", treeOf(nodes, root).map(line))];
  return loaded(() => get(`/api/sessions/${id}/branches`), tree);
}

// Two sessions side by side: how much they share, and then what each of them says.
export function compareView(ids) {
  const both = ids.slice(0, 2).map((id) => new Conversation(id));
  for (const conversation of both) conversation.open();
  onEnd(() => both.forEach((conversation) => conversation.close()));
  const shared = () => {
    const [one, other] = both.map(({ items }) => items.value.map(({ key }) => key));
    const first = one.findIndex((key, at) => other[at] !== key);
    return first < 0 ? one.length : first;
  };
  const column = (conversation) => {
    const { id, session, items, atStart, problem } = conversation;
    const view = { conversation, isLast: () => false, messages: () => [], toolName: () => null };
    const show = (_, item) => (item.kind === "note" ? noteView(item, view) : messageView(item, view));
    const title = h("h2", () => session.value && link(["sessions", id], {}, words(titleOf(session.value))));
    const older = () => !atStart.value && button("Earlier messages", () => conversation.older());
    const list = each(h("div.messages"), () => items.value.slice(shared()), (item) => item, show);
    return h("section", title, problemLine(problem), older, list);
  };
  const figures = h("span.figures", () => plural(shared(), "shared message"));
  return h("div.page.wide", heading("Side by side", figures), h("div.side", both.map(column)));
}
