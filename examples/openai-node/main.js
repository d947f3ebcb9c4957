// The OpenAI Node SDK, unmodified, against Partywall. The SDK itself reads OPENAI_BASE_URL and
// OPENAI_API_KEY. Each check prints a line; the script ends with a count and fails if any did.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import OpenAI from "openai";

const model = process.env.PARTYWALL_MODEL ?? "sim-small";
const embeddingModel = process.env.PARTYWALL_EMBEDDING_MODEL ?? "sim-embed";
const client = new OpenAI({ maxRetries: 0, timeout: 60_000 });

const ask = (options = {}, request = {}) =>
  client.chat.completions.create(
    {
      model,
      max_tokens: 16,
      messages: [{ role: "user", content: "Say something short." }],
      ...options,
    },
    request,
  );

const weather = {
  type: "function",
  function: {
    name: "weather",
    description: "The weather in a city.",
    parameters: {
      type: "object",
      properties: { city: { type: "string" } },
      required: ["city"],
    },
  },
};

const refusal = async (expected, call) => {
  const error = await call().then(
    (answer) => assert.fail(`expected ${expected.name}, got ${JSON.stringify(answer)}`),
    (error) => error,
  );
  assert.ok(error instanceof expected, String(error));
  return error;
};

// What any OpenAI-compatible engine can do.
const everywhere = {
  async chat() {
    const answer = await ask();
    assert.ok(answer.choices[0].message.content);
    assert.ok(answer.usage.completion_tokens <= 16);
    return `${answer.usage.total_tokens} tokens`;
  },

  async stream() {
    let text = "";
    let usage;
    const events = await ask({ stream: true, stream_options: { include_usage: true } });
    for await (const chunk of events) {
      text += chunk.choices[0]?.delta?.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.ok(text);
    assert.ok(usage.completion_tokens > 0);
    return `${usage.completion_tokens} tokens out`;
  },

  async "a stream that is left early"() {
    const events = await ask({ stream: true, max_tokens: 400 });
    for await (const chunk of events) {
      assert.ok(chunk.choices);
      break;
    }
    assert.ok((await ask()).choices.length);
    return "left after one chunk";
  },

  async "several choices"() {
    const answer = await ask({ n: 2 });
    assert.deepEqual(answer.choices.map((choice) => choice.index).sort(), [0, 1]);
    return "2 choices";
  },

  async completions() {
    const answer = await client.completions.create({ model, prompt: "Once upon", max_tokens: 8 });
    assert.ok(answer.choices[0].text);
    return JSON.stringify(answer.choices[0].text.slice(0, 30));
  },

  async models() {
    const names = [];
    for await (const one of client.models.list()) names.push(one.id);
    assert.ok(names.includes(model), names.join());
    return names.join(", ");
  },

  async "a wrong key"() {
    const stranger = client.withOptions({ apiKey: "pw_nobody" });
    const error = await refusal(OpenAI.AuthenticationError, () => stranger.models.list());
    assert.equal(error.code, "invalid_api_key");
    assert.ok(error.requestID);
    return error.code;
  },

  async "an unknown model"() {
    const error = await refusal(OpenAI.NotFoundError, () => ask({ model: "no-such-model" }));
    assert.equal(error.code, "model_not_found");
    return error.code;
  },

  async idempotency() {
    const headers = { "idempotency-key": randomUUID() };
    const first = await ask({}, { headers });
    const again = await ask({}, { headers });
    assert.equal(again.id, first.id);
    return "same answer";
  },

  async "request ids"() {
    const { data, request_id } = await ask().withResponse();
    assert.ok(request_id);
    assert.equal(data._request_id, request_id);
    return request_id;
  },
};

// What needs the built-in simulator, which does as it is told.
const simulated = {
  async tools() {
    const answer = await ask({
      max_tokens: 64,
      tools: [weather],
      tool_choice: { type: "function", function: { name: "weather" } },
    });
    const [call] = answer.choices[0].message.tool_calls;
    assert.equal(typeof JSON.parse(call.function.arguments).city, "string");
    return call.function.arguments;
  },

  async "structured output"() {
    const schema = {
      type: "object",
      properties: { name: { type: "string" }, people: { type: "integer" } },
      required: ["name", "people"],
      additionalProperties: false,
    };
    const answer = await ask({
      max_tokens: 200,
      response_format: { type: "json_schema", json_schema: { name: "city", strict: true, schema } },
    });
    const city = JSON.parse(answer.choices[0].message.content);
    assert.equal(typeof city.name, "string");
    assert.ok(Number.isInteger(city.people));
    return JSON.stringify(city);
  },

  async conversations() {
    const items = [{ role: "user", content: "My name is Ada." }];
    const { id } = await client.conversations.create({ metadata: { topic: "walls" }, items });
    const asked = { model, max_output_tokens: 16, conversation: id };
    const first = await client.responses.create({ ...asked, input: "What is my name?" });
    assert.equal(first.conversation.id, id);
    let last;
    for await (const event of await client.responses.create({ ...asked, input: "And again?", stream: true })) {
      last = event;
    }
    // A short bound: it may well be cut there.
    assert.match(last.type, /^response\.(completed|incomplete)$/);
    const roles = [];
    for await (const item of client.conversations.items.list(id, { order: "asc", limit: 2 })) {
      roles.push(item.role);
    }
    assert.deepEqual(roles, ["user", "user", "assistant", "user", "assistant"]);
    const added = await client.conversations.items.create(id, { items });
    await client.conversations.items.delete(added.data[0].id, { conversation_id: id });
    const item = await client.conversations.items.retrieve(first.output[0].id, { conversation_id: id });
    assert.equal(item.content[0].text, first.output_text);
    await client.conversations.update(id, { metadata: { topic: "doors" } });
    assert.equal((await client.conversations.retrieve(id)).metadata.topic, "doors");
    assert.ok((await client.conversations.delete(id)).deleted);
    const error = await refusal(OpenAI.NotFoundError, () => client.conversations.retrieve(id));
    return `${roles.length} items, then ${error.code}`;
  },

  async embeddings() {
    const answer = await client.embeddings.create({ model: embeddingModel, input: ["one", "two"] });
    assert.equal(answer.data.length, 2);
    assert.equal(typeof answer.data[0].embedding[0], "number");
    return `${answer.data[0].embedding.length} dimensions`;
  },

  async "unknown fields"() {
    const answer = await ask({ x_unknown: { kept: true } });
    assert.ok(answer.x_sim, JSON.stringify(answer));
    return JSON.stringify(answer.x_sim);
  },

  async "a failure in mid-stream"() {
    let received = 0;
    const error = await refusal(OpenAI.APIError, async () => {
      const messages = [{ role: "user", content: "[[fault:error=3]] [[tokens:10]]" }];
      for await (const chunk of await ask({ stream: true, messages })) {
        assert.ok(chunk.choices);
        received += 1;
      }
    });
    assert.ok(received > 0, "nothing came before the error");
    return `${received} chunks, then ${error.constructor.name}`;
  },
};

const isAnyEngine = process.argv.includes("--any-engine");
const checks = Object.entries(isAnyEngine ? everywhere : { ...everywhere, ...simulated });
let failed = 0;
for (const [name, check] of checks) {
  try {
    console.log(`ok      ${name}: ${await check()}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}`);
    console.log(error);
  }
}
console.log(`${checks.length - failed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
