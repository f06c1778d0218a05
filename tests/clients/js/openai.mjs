// OpenAI's client for JavaScript: `node openai.mjs URL LINE`; LINE is the README's, with that URL.
import OpenAI from "openai";

const [, , url, line] = process.argv;
const client = new Function("OpenAI", `return ${line}`)(OpenAI);

async function text() {
  const messages = [{ role: "user", content: "one" }];
  const first = await client.chat.completions.create({ model: "echo/echo", messages });
  messages.push(first.choices[0].message, { role: "user", content: "two" });
  const second = await client.chat.completions.create({ model: "echo/echo", messages });
  return [first.choices[0].message.content, second.choices[0].message.content];
}

async function stream() {
  const messages = [{ role: "user", content: "Once more, in pieces." }];
  const pieces = [];
  for await (const chunk of await client.chat.completions.create({ model: "echo/paced", messages, stream: true })) {
    if (chunk.choices[0]?.delta.content) pieces.push(chunk.choices[0].delta.content);
  }
  return pieces;
}

async function tools() {
  const called = [];
  const runner = client.chat.completions.runTools({
    model: "scripted/tools",
    messages: [{ role: "user", content: "Is it dry?" }],
    tools: [
      {
        type: "function",
        function: {
          name: "look",
          parameters: { type: "object", properties: { city: { type: "string" } } },
          parse: JSON.parse,
          function: (given) => {
            called.push(given);
            return `No rain in ${given.city}.`;
          },
        },
      },
    ],
  });
  const answer = await runner.finalContent();
  return [...called, answer];
}

async function error() {
  const quiet = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
  try {
    await quiet.chat.completions.create({ model: "nothing", messages: [{ role: "user", content: "x" }] });
  } catch (caught) {
    return { type: caught.constructor.name, status: caught.status, message: caught.message };
  }
}

console.log(JSON.stringify({ text: await text(), stream: await stream(), tools: await tools(), error: await error() }));
