// The Vercel AI SDK's provider for OpenAI, at Chat Completions: `node ai_sdk_openai.mjs URL`.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, isStepCount, jsonSchema, Output, streamText, tool } from "ai";

const [, , url] = process.argv;
const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: "none" });

async function text() {
  const messages = [{ role: "user", content: "one" }];
  const first = await generateText({ model: openai.chat("echo/echo"), messages });
  messages.push(...first.response.messages, { role: "user", content: "two" });
  const second = await generateText({ model: openai.chat("echo/echo"), messages });
  return { texts: [first.text, second.text], usage: first.usage.totalTokens };
}

async function stream() {
  const pieces = [];
  const running = streamText({ model: openai.chat("echo/paced"), prompt: "Once more, in pieces." });
  for await (const piece of running.textStream) pieces.push(piece);
  return pieces;
}

async function tools() {
  const called = [];
  const look = tool({
    inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } } }),
    execute: (given) => {
      called.push(given);
      return `No rain in ${given.city}.`;
    },
  });
  const model = openai.chat("scripted/tools");
  const answer = await generateText({ model, prompt: "Is it dry?", tools: { look }, stopWhen: isStepCount(3) });
  return [...called, answer.text];
}

async function structured() {
  const schema = jsonSchema({ type: "object", properties: { answer: { type: "number" } }, required: ["answer"] });
  const output = Output.object({ schema });
  return (await generateText({ model: openai.chat("openai/json"), prompt: "2 + 2?", output })).output;
}

async function error() {
  try {
    await generateText({ model: openai.chat("nothing"), prompt: "x", maxRetries: 0 });
  } catch (caught) {
    return { name: caught.name, status: caught.statusCode, message: caught.message };
  }
  return null;
}

const told = {};
for (const [name, step] of Object.entries({ text, stream, tools, structured, error })) {
  try {
    told[name] = await step();
  } catch (error) {
    told[name] = { failed: error.stack };
  }
}
console.log(JSON.stringify(told));
