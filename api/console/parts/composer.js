// Where one writes: words, images by paste or drop, the model, tools, and a stop while an answer comes.

import { each, h, signal } from "../core/reactive.js";
import { recall, remember } from "../core/router.js";
import { get, newKey, write } from "../client/http.js";
import { action, button, form, problemLine, quiet } from "./common.js";
import { IMAGE_TYPES, blockOf, imageOf } from "./message.js";

const DRAFT_MS = 300;

// Lists that are read once, and again only where that failed.
const lists = new Map();
function listOf(path) {
  if (!lists.has(path)) {
    lists.set(path, get(path, { limit: 1000 }).then(({ items }) => items));
    lists.get(path).catch(() => lists.delete(path));
  }
  return lists.get(path);
}

// An input that suggests the models that are known, and takes any other.
export function modelInput(properties = {}) {
  const list = h("datalist", { id: `models${newKey().slice(0, 8)}` });
  listOf("/api/models").then((items) => {
    list.append(...items.map(({ provider, name }) => h("option", { value: `${provider}/${name}` })));
  }, () => {});
  const input = h("input", { type: "text", list: list.id, autocomplete: "off", spellcheck: "false", ...properties });
  return h("span.suggesting", input, list);
}

export class Composer {
  constructor(conversation) {
    const { id } = conversation;
    Object.assign(this, { conversation, draft: `draft.${id}`, choice: `tools.${id}`, key: null });
    this.text = signal(recall(this.draft) ?? "");
    this.images = signal([]);
    this.model = signal("");
    this.tools = signal(JSON.parse(recall(this.choice) ?? "[]"));
    this.editing = signal(null); // the version from which a message is written anew
    this.sending = action((more) => this.post(more));
    this.stopping = action((turn) => write("POST", `/api/turns/${turn}/cancel`, {}));
    this.attaching = action(async (files) => {
      for (const file of files) {
        const block = await blockOf(file);
        this.key = null;
        this.images.update((images) => [...images, block]);
      }
    });
  }

  changed(text) {
    this.text.value = text;
    this.key = null;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => remember(this.draft, text), DRAFT_MS);
  }

  // Takes up a message to write it anew; the answer will stand in a branch beside it.
  edit({ content }, version) {
    this.editing.value = version;
    this.changed(content.filter(({ type }) => type === "text").map(({ text }) => text).join("\n\n"));
    this.images.value = content.filter(({ type }) => type === "image");
    this.input.focus();
  }

  async send() {
    const [text, images, version] = [this.text.peek(), this.images.peek(), this.editing.peek()];
    if (this.open() || (!text.trim() && !images.length)) return;
    const content = images.length ? [...images, ...(text.trim() ? [{ type: "text", text }] : [])] : text;
    const turn = await this.sending.run(version === null ? { content } : { content, from_version: version });
    if (!turn) return;
    this.changed("");
    this.images.value = [];
    this.editing.value = null;
  }

  // Starts a turn. It is asked for with the same key until it was answered: sent twice, it is done once.
  async post(more) {
    this.key ??= newKey();
    const [model, tools] = [this.model.peek(), this.tools.peek()];
    const body = { ...more, ...(model && { model }), ...(tools.length && { tools }) };
    const options = { key: this.key, headers: { prefer: "respond-async" } };
    const turn = await write("POST", `${this.conversation.path}/turns`, body, options);
    this.key = null;
    this.started?.(turn);
    return turn;
  }

  // The turn that runs or waits: until it ends nothing is sent.
  open() {
    return this.conversation.running.value ?? this.conversation.waiting.value?.id ?? null;
  }

  view() {
    const open = () => this.open();
    this.input = h("textarea", {
      rows: 2,
      dir: "auto",
      "aria-label": "Message",
      placeholder: "Write a message. Enter sends it, Shift+Enter begins a line.",
      value: () => this.text.value,
      oninput: (event) => this.changed(event.target.value),
      onkeydown: (event) => this.pressed(event),
      onpaste: (event) => this.dropped(event, event.clipboardData),
      ondragover: (event) => event.preventDefault(),
      ondrop: (event) => this.dropped(event, event.dataTransfer),
    });
    const stop = button("Stop", () => this.stopping.run(open()), { class: "stop", hidden: () => !open() });
    const submit = { type: "submit", disabled: () => this.sending.busy.value, hidden: () => Boolean(open()) };
    const bar = h("div.bar", this.choices(), h("button.primary", submit, "Send"), stop);
    const problems = [this.sending, this.stopping, this.attaching].map(({ problem }) => problemLine(problem));
    return h("div.composer", form(() => this.send(), problems, this.editingLine(), this.attached(), this.input, bar));
  }

  editingLine() {
    const cancel = () => {
      this.editing.value = null;
      this.changed("");
    };
    const hint = "The answer will stand in a branch beside this one. ";
    return () => this.editing.value !== null && h("p.hint", hint, quiet("Cancel", cancel));
  }

  pressed(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.send();
  }

  dropped(event, data) {
    if (!data?.files.length) return;
    event.preventDefault();
    this.attaching.run([...data.files]);
  }

  attached() {
    const remove = (image) => this.images.update((images) => images.filter((other) => other !== image));
    return each(h("div.attached"), () => this.images.value, (image) => image, (_, image) =>
      h("figure", imageOf(image.source, "Attached image"), quiet("Remove", () => remove(image))),
    );
  }

  choices() {
    const model = modelInput({
      class: "model",
      "aria-label": "Model",
      placeholder: () => this.conversation.session.value?.model ?? "model",
      value: () => this.model.value,
      oninput: ({ target }) => this.model.update(() => target.value.trim()),
    });
    const onchange = ({ target }) => {
      this.attaching.run([...target.files]);
      target.value = "";
    };
    const picked = { type: "file", accept: IMAGE_TYPES.join(), multiple: true, tabindex: -1, onchange };
    const file = h("input.offscreen", { ...picked, "aria-label": "Images" });
    return h("span.choices", model, this.toolChoice(), file, quiet("Image", () => file.click()));
  }

  toolChoice() {
    const found = signal([]);
    listOf("/api/tools").then((items) => found.update(() => items), () => {});
    const choose = (name, on) => {
      this.tools.update((names) => (on ? [...names, name] : names.filter((other) => other !== name)));
      remember(this.choice, JSON.stringify(this.tools.peek()));
    };
    const option = (_, { name, description, approval }) => {
      const onchange = (event) => choose(name, event.target.checked);
      const box = h("input", { type: "checkbox", checked: this.tools.peek().includes(name), onchange });
      return h("label", { title: description }, box, h("code", name), approval && h("span.hint", "asks first"));
    };
    const chosen = () => (this.tools.value.length ? `Tools: ${this.tools.value.length}` : "Tools");
    const menu = () => each(h("div.menu"), () => found.value, (tool) => tool, option);
    return () => found.value.length > 0 && h("details.choice", h("summary", chosen), menu());
  }
}
