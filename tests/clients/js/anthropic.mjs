// Anthropic's client for JavaScript: `node anthropic.mjs URL LINE`; LINE is the README's, with that URL.
import Anthropic from "@anthropic-ai/sdk";

const [, , url, line] = process.argv;
const client = new Function("Anthropic", `return ${line}`)(Anthropic);
const user = (content) => ({ role: "user", content });
const ask = (model, messages, more = {}) => client.messages.create({ model, max_tokens: 100, messages, ...more });

async function text() {
  const first = await ask("echo/echo", [user("one")]);
  const history = [user("one"), { role: "assistant", content: first.content }, user("two")];
  const second = await ask("echo/echo", history);
  return [first.content[0].text, second.content[0].text];
}

async function stream() {
  const pieces = [];
  const messages = [user("Once more, in pieces.")];
  const running = client.messages.stream({ model: "echo/paced", max_tokens: 100, messages });
  running.on("text", (piece) => pieces.push(piece));
  await running.finalMessage();
  return pieces;
}

async function tools() {
  const tools = [{ name: "look", input_schema: { type: "object", properties: { city: { type: "string" } } } }];
  const first = await ask("scripted/tools", [user("Is it dry?")], { tools });
  const call = first.content.find((block) => block.type === "tool_use");
  const result = { type: "tool_result", tool_use_id: call.id, content: `No rain in ${call.input.city}.` };
  const history = [user("Is it dry?"), { role: "assistant", content: first.content }, user([result])];
  const second = await ask("scripted/tools", history, { tools });
  return [call.input, second.content[0].text];
}

async function error() {
  const quiet = new Anthropic({ baseURL: url, apiKey: "none", maxRetries: 0 });
  try {
    await quiet.messages.create({ model: "nothing", max_tokens: 10, messages: [user("x")] });
  } catch (caught) {
    return { type: caught.constructor.name, status: caught.status, message: caught.message };
  }
}

console.log(JSON.stringify({ text: await text(), stream: await stream(), tools: await tools(), error: await error() }));
