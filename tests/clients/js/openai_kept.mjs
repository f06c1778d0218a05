// OpenAI's client for JavaScript: what it keeps on the server, completions and conversations: `node openai_kept.mjs URL`.
import OpenAI from "openai";

const [, , url] = process.argv;
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const user = (content) => ({ type: "message", role: "user", content });

async function all(list) {
  const found = [];
  for await (const item of list) found.push(item);
  return found;
}

async function code(asked) {
  try {
    return await asked;
  } catch (error) {
    return error.code;
  }
}

async function completions() {
  const metadata = { suite: "js" };
  const names = [];
  for (const content of ["one", "two", "three"]) {
    const messages = [{ role: "user", content }];
    names.push((await client.chat.completions.create({ model: "echo/echo", messages, store: true, metadata })).id);
  }
  const listed = await all(client.chat.completions.list({ metadata, limit: 2 }));
  const messages = await all(client.chat.completions.messages.list(names[0]));
  const { deleted } = await client.chat.completions.delete(names[0]);
  const gone = await code(client.chat.completions.retrieve(names[0]));
  return { same: listed.map((each) => names.indexOf(each.id)), messages: messages.map((each) => each.content), deleted, gone };
}

async function conversations() {
  const conversation = await client.conversations.create({ metadata: { topic: "js" }, items: [user("one")] });
  const place = { conversation_id: conversation.id };
  const items = [user("two"), { type: "message", role: "assistant", content: "three" }];
  const added = await client.conversations.items.create(conversation.id, { items, include: ["message.input_image.image_url"] });
  const query = { limit: 1, order: "asc", include: ["reasoning.encrypted_content", "file_search_call.results"] };
  const listed = await all(client.conversations.items.list(conversation.id, query));
  const texts = listed.map((each) => each.content[0].text);
  await client.conversations.items.delete(added.first_id, place);
  const item = await code(client.conversations.items.retrieve(added.first_id, place));
  const { metadata } = await client.conversations.update(conversation.id, { metadata: { topic: "x" } });
  const { deleted } = await client.conversations.delete(conversation.id);
  const gone = await code(client.conversations.retrieve(conversation.id));
  const rest = (await all(client.conversations.items.list(conversation.id))).length;
  return { texts, item, metadata, deleted, gone, rest };
}

console.log(JSON.stringify({ completions: await completions(), conversations: await conversations() }));
