// The Vercel AI SDK's chat, as useChat has it but for React: `node ai_sdk.mjs URL LINE`; LINE is the
// README's, with that URL. Each step is told as JSON.
import {
  AbstractChat,
  DefaultChatTransport,
  lastAssistantMessageIsCompleteWithApprovalResponses,
  lastAssistantMessageIsCompleteWithToolCalls,
  readUIMessageStream,
  validateUIMessages,
} from "ai";

const [, , url, line] = process.argv;
const { api } = new Function("DefaultChatTransport", `return ${line}`)(DefaultChatTransport);

class State {
  status = "ready";
  error = undefined;
  messages;
  constructor(messages) {
    this.messages = messages;
  }
  pushMessage = (message) => {
    this.messages = [...this.messages, message];
  };
  popMessage = () => {
    this.messages = this.messages.slice(0, -1);
  };
  replaceMessage = (index, message) => {
    this.messages = [...this.messages.slice(0, index), structuredClone(message), ...this.messages.slice(index + 1)];
  };
  snapshot = (thing) => structuredClone(thing);
}

class Chat extends AbstractChat {
  constructor({ messages = [], body = {}, fetch, ...options }) {
    const transport = new DefaultChatTransport({ api, body, fetch });
    super({ ...options, transport, state: new State(messages) });
  }
  get text() {
    return texts(this.lastMessage);
  }
  get calls() {
    return this.lastMessage.parts.filter((part) => part.toolCallId);
  }
}

const texts = (message) => message.parts.map((part) => (part.type === "text" ? part.text : "")).join("");
const place = (message) => message.metadata.session;
const idle = async (chat) => {
  for (let n = 0; n < 400 && chat.status !== "ready" && chat.status !== "error"; n += 1) await pause(25);
};
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// A fetch whose first answer breaks off, as a network does, after some reads.
const breaking = (reads) => {
  let left = 1;
  return async (...request) => {
    const response = await fetch(...request);
    if (!response.body || left-- <= 0) return response;
    const reader = response.body.getReader();
    let count = 0;
    const body = new ReadableStream({
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) return controller.close();
        controller.enqueue(value);
        count += 1;
        if (count < reads) return undefined;
        await reader.cancel();
        return controller.error(new TypeError("network error"));
      },
    });
    return new Response(body, { status: response.status, headers: response.headers });
  };
};

async function text() {
  const chat = new Chat({ id: "text", body: { model: "echo/echo", system: "Be brief." } });
  await chat.sendMessage({ text: "one" });
  await chat.sendMessage({ text: "two" });
  const messages = await validateUIMessages({ messages: chat.messages });
  return { texts: messages.map(texts), sessions: [place(messages[1]), place(messages[3])], usage: messages[1].metadata };
}

async function stream() {
  const transport = new DefaultChatTransport({ api, body: { model: "scripted/think" } });
  const messages = [{ id: "u", role: "user", parts: [{ type: "text", text: "Two?" }] }];
  const chunks = await transport.sendMessages({ chatId: "stream", messages, trigger: "submit-message" });
  const seen = [];
  for await (const message of readUIMessageStream({ stream: chunks })) seen.push(texts(message));
  return seen;
}

async function resume() {
  const lost = new Chat({ id: "resume", body: { model: "scripted/slow" }, fetch: breaking(5) });
  await lost.sendMessage({ text: "Go." });
  const before = { status: lost.status, message: lost.lastMessage.id, text: lost.text };
  await lost.resumeStream();
  const other = new Chat({ id: "resume", messages: lost.messages.slice(0, 1) });
  await other.resumeStream();
  const count = lost.messages.length;
  return { before, status: lost.status, message: lost.lastMessage.id, text: lost.text, count, late: other.messages.length };
}

async function reload() {
  const left = new Chat({ id: "reload", body: { model: "scripted/slow" } });
  const sending = left.sendMessage({ text: "Go." });
  while (!left.lastMessage || left.lastMessage.role !== "assistant" || !left.text) await pause(10);
  await left.stop();
  await sending;
  const again = new Chat({ id: "reload", messages: left.messages.slice(0, 1) });
  await again.resumeStream();
  return { text: again.text, same: again.lastMessage.id === left.lastMessage.id };
}

async function regenerate() {
  const chat = new Chat({ id: "regenerate", body: { model: "scripted/think" } });
  await chat.sendMessage({ text: "one" });
  const first = chat.lastMessage;
  await chat.regenerate();
  const second = chat.lastMessage;
  await chat.sendMessage({ text: "more" });
  const sessions = [first, second, chat.lastMessage].map(place);
  return { sessions, ids: [first.id, second.id], texts: chat.messages.map(texts) };
}

async function edit() {
  const chat = new Chat({ id: "edit", body: { model: "echo/echo" } });
  await chat.sendMessage({ text: "one" });
  await chat.sendMessage({ text: "two" });
  const before = place(chat.lastMessage);
  await chat.sendMessage({ text: "zwei", messageId: chat.messages[2].id });
  return { sessions: [before, place(chat.lastMessage)], texts: chat.messages.map(texts) };
}

async function files() {
  const chat = new Chat({ id: "files", body: { model: "openai/gpt-5" } });
  const files = [
    { type: "file", mediaType: "image/png", url: "data:image/png;base64,iVBORw0KGgo=", filename: "a.png" },
    { type: "file", mediaType: "text/plain", url: `data:text/plain;base64,${btoa("words of a file")}` },
  ];
  await chat.sendMessage({ text: "What is this?", files });
  return { text: chat.text, session: place(chat.lastMessage), error: chat.error?.message };
}

async function errors() {
  const errors = [];
  const onError = (error) => errors.push(error.message);
  const failing = new Chat({ id: "failing", body: { model: "scripted/fails" }, onError });
  await failing.sendMessage({ text: "x" });
  const unknown = new Chat({ id: "unknown", body: { model: "nothing" }, onError });
  await unknown.sendMessage({ text: "x" });
  const shown = { text: failing.text, statuses: [failing.status, unknown.status], errors: [...errors] };
  failing.clearError();
  await failing.sendMessage({ text: "y" });
  return { ...shown, after: failing.text };
}

async function stop() {
  const chat = new Chat({ id: "stop", body: { model: "scripted/hang" } });
  const sending = chat.sendMessage({ text: "Go." });
  while (!chat.lastMessage || chat.lastMessage.role !== "assistant" || !chat.text) await pause(10);
  const asked = async () => (await fetch(`${api}/stop/stop`, { method: "POST" })).json();
  const told = [await asked()];
  await sending;
  told.push(await asked());
  const session = place(chat.lastMessage);
  await chat.sendMessage({ text: "On." }, { body: { model: "echo/echo" } });
  return { told, status: chat.status, text: chat.text, same: session === place(chat.lastMessage) };
}

const look = { name: "look", description: "Looks.", inputSchema: { type: "object", properties: {} } };

async function tools() {
  const called = [];
  const chat = new Chat({
    id: "tools",
    body: { model: "scripted/rounds", tools: [look] },
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
    onToolCall: ({ toolCall }) => {
      called.push(toolCall.input.city);
      const { toolCallId } = toolCall;
      chat.addToolOutput({ tool: "look", toolCallId, output: { rain: false, city: toolCall.input.city } });
    },
  });
  await chat.sendMessage({ text: "Is it dry?" });
  await idle(chat);
  const outputs = chat.calls.map((part) => part.output.city);
  const { text, messages } = chat;
  await chat.sendMessage({ text: "Thanks." }, { body: { model: "echo/echo" } });
  return { called, outputs, text, count: messages.length, session: place(chat.lastMessage) };
}

async function toolsCut() {
  // The last of three turns is cut off; who comes back has all of the message again.
  let sent = 0;
  const cut = breaking(6);
  const chat = new Chat({
    id: "toolsCut",
    body: { model: "scripted/rounds", tools: [look] },
    fetch: (target, options) => {
      if (options.method === "POST") sent += 1;
      return sent === 3 && options.method === "POST" ? cut(target, options) : fetch(target, options);
    },
    sendAutomaticallyWhen: ({ messages }) => !chat.error && lastAssistantMessageIsCompleteWithToolCalls({ messages }),
    onToolCall: ({ toolCall }) => {
      chat.addToolOutput({ tool: "look", toolCallId: toolCall.toolCallId, output: toolCall.input.city });
    },
  });
  await chat.sendMessage({ text: "Is it dry?" });
  await idle(chat);
  const before = { status: chat.status, text: chat.text };
  await chat.resumeStream();
  return { before, text: chat.text, outputs: chat.calls.map((part) => part.output), count: chat.messages.length };
}

async function here() {
  const chat = new Chat({ id: "here", body: { model: "scripted/sum", tools: ["calculator"] } });
  await chat.sendMessage({ text: "What is 6 times 7?" });
  const [call] = chat.calls;
  return { output: call.output, state: call.state, text: chat.text, steps: chat.lastMessage.parts.map((part) => part.type) };
}

async function approvals() {
  const chat = new Chat({
    id: "approvals",
    body: { model: "scripted/greet", tools: ["house_greet"] },
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
  });
  await chat.sendMessage({ text: "Greet them." });
  const asked = chat.calls.map((part) => part.state);
  const turn = chat.lastMessage.metadata.turn;
  const reloaded = new Chat({ id: "approvals", messages: chat.messages.slice(0, 1) });
  await reloaded.resumeStream();
  const askedAgain = reloaded.calls.map((part) => part.state);
  const [first, second] = chat.calls.map((part) => part.approval.id);
  await chat.addToolApprovalResponse({ id: first, approved: true });
  await chat.addToolApprovalResponse({ id: second, approved: false, reason: "Bob is away" });
  await pause(50);
  await idle(chat);
  const done = chat.calls.map((part) => [part.state, part.output ?? part.approval.reason]);
  const { text, messages } = chat;
  const same = chat.lastMessage.metadata.turn === turn;
  await validateUIMessages({ messages });
  await chat.sendMessage({ text: "Thanks." }, { body: { model: "echo/echo" } });
  return { asked, askedAgain, done, text, same, count: messages.length, sessions: messages.slice(1).map(place), after: place(chat.lastMessage) };
}

const steps = { text, stream, resume, reload, regenerate, edit, files, errors, stop, tools, toolsCut, here, approvals };
const told = {};
for (const [name, step] of Object.entries(steps)) {
  try {
    told[name] = await step();
  } catch (error) {
    told[name] = { failed: error.stack };
  }
}
console.log(JSON.stringify(told));
