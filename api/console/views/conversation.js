// A conversation: its messages, live, and a place to go on in it; its branches as a tree, and two of them side by side.

import { each, h, onEnd, signal } from "../core/reactive.js";
import { address, go } from "../core/router.js";
import { Conversation } from "../client/conversation.js";
import { get, may } from "../client/http.js";
import { button, heading, link, loaded, plural, problemLine, quiet, stamp, words } from "../parts/common.js";
import { Composer } from "../parts/composer.js";
import { messageView, noteView } from "../parts/message.js";
import { say } from "../parts/shell.js";
import { VirtualList } from "../parts/virtual.js";
import { approvalCards } from "./approvals.js";
import { figures, settingsDialog, titleOf } from "./sessions.js";

export function conversationView([id], query) {
  const conversation = new Conversation(id, { say, following: () => view.list.sticking.peek() });
  const view = new ConversationView(conversation);
  const at = query.get("at");
  conversation.open(at === null ? null : Number(at));
  onEnd(() => conversation.left.abort());
  if (at !== null) view.goTo(Number(at));
  return view.show();
}

class ConversationView {
  constructor(conversation) {
    this.conversation = conversation;
    this.composer = may("chat") ? new Composer(conversation) : null;
    if (this.composer) this.composer.started = ({ session_id: id }) => id !== conversation.id && go(["sessions", id]);
    this.list = new VirtualList(h("div.messages", { role: "feed", "aria-label": "Messages" }), {
      label: "Conversation",
      items: () => conversation.items.value,
      keyOf: ({ key }) => key,
      render: (item) => (item.peek().kind === "note" ? noteView(item.peek(), this) : messageView(item.peek(), this)),
      guess: 140,
      bottom: true,
      atEnd: () => conversation.atEnd.peek(),
      onStart: () => conversation.more("desc"),
      onEnd: () => conversation.more("asc"),
    });
  }

  // Brings the message of a version, or the one behind it, before the eye; it is loaded if need be.
  async goTo(version) {
    const { conversation, list } = this;
    if (conversation.session.peek()) await conversation.show(version);
    await conversation.first.promise;
    const items = conversation.items.peek();
    const near = items.find(({ order }) => order >= version) ?? items.at(-1);
    if (near) requestAnimationFrame(() => list.toKey(near.key));
  }

  async toNewest() {
    if (!this.conversation.atEnd.peek()) await this.conversation.show(null);
    requestAnimationFrame(() => this.list.toEnd());
  }

  show() {
    const { conversation, composer, list } = this;
    const { atStart, atEnd, connection, items } = conversation;
    const away = () => !(list.sticking.value && atEnd.value) && items.value.length > 0;
    const first = () => !atStart.value && button("↑ First", () => this.goTo(1));
    const jumps = () => away() && h("span.jumps", first, button("↓ Newest", () => this.toNewest()));
    const lost = () => connection.value === "lost" && h("p.lost", "The connection is lost. Trying again …");
    const archived = () => conversation.session.value?.status === "archived";
    const writing = composer?.view();
    return [
      () => this.heading(conversation.session.value),
      problemLine(conversation.problem, () => location.reload()),
      list.element,
      h("div.over", lost, jumps),
      () => conversation.waiting.value && may("chat") && approvalCards(conversation.waiting.value),
      () => (archived() ? h("p.hint", "This session is archived: nothing is added to it.") : writing),
    ];
  }

  heading(session) {
    if (!session) return heading("Conversation");
    const { id, model, legal_hold: hold, system } = session;
    const settings = async () => {
      const changed = await settingsDialog(session);
      if (changed) this.conversation.session.value = changed;
    };
    const actions = [
      link(["sessions", id, "record"], {}, "Record"),
      session.family && link(["sessions", id, "branches"], {}, "Branches"),
      may("chat") && quiet("Settings", settings),
      may("chat") && link(["replays"], { sessions: id }, "Replay"),
      link(["sessions", id, "keep"], {}, "Erase, hold, export"),
    ];
    return heading(
      words(titleOf(session)),
      h("span.figures", h("code.model", model), figures(session), hold && h("span.flag", "held")),
      h("nav.actions", { "aria-label": "This session" }, actions),
      system && h("details.system", h("summary", "System prompt"), words(system, "p")),
    );
  }

  // --- what messages ask for ---

  start(more) {
    this.composer?.sending.run(more);
  }

  edit(message) {
    this.composer?.edit(message, message.version - 1);
  }

  // Answers the same question again, in a branch from the version behind it.
  regenerate({ version }) {
    const asked = this.messages().findLast((message) => message.version < version && message.role === "user");
    if (asked) this.start({ from_version: asked.version });
  }

  siblings(message) {
    if (!message.siblings?.length) return null;
    const all = [...message.siblings, message].sort((one, other) => one.position - other.position);
    const index = all.indexOf(message);
    const to = (other, sign, name) => {
      if (!other) return h("span.quiet", sign);
      return h("a", { href: address(["sessions", other.session_id], { at: other.version }), "aria-label": name }, sign);
    };
    const [before, place] = [to(all[index - 1], "‹", "Branch before"), ` ${index + 1}/${all.length} `];
    return h("span.siblings", before, place, to(all[index + 1], "›", "Next branch"));
  }

  messages() {
    return this.conversation.items.peek().map(({ message }) => message?.peek()).filter(Boolean);
  }

  // Whether a note tells how the newest turn ended.
  isLast(note) {
    const { running, waiting, items } = this.conversation;
    const isEnd = ({ kind, event }) => kind === "message" || event.type.startsWith("turn.");
    return !running.value && !waiting.value && items.value.findLast(isEnd)?.key === note.key;
  }

  toolName(call) {
    const blocks = this.conversation.items.peek().flatMap(({ blocks: own }) => own?.peek() ?? []);
    return blocks.find(({ type, id }) => type === "tool_use" && id === call)?.name ?? null;
  }
}

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
  onEnd(() => both.forEach(({ left }) => left.abort()));
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
    const older = () => !atStart.value && button("Earlier messages", () => conversation.more("desc"));
    const list = each(h("div.messages"), () => items.value.slice(shared()), (item) => item, show);
    return h("section", title, problemLine(problem), older, list);
  };
  const figures = h("span.figures", () => plural(shared(), "shared message"));
  return h("div.page.wide", heading("Side by side", figures), h("div.side", both.map(column)));
}
