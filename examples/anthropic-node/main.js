// The Anthropic Node SDK, unmodified, against Partywall. The SDK itself reads ANTHROPIC_BASE_URL and
// ANTHROPIC_API_KEY. Each check prints a line; the script ends with a count and fails if any did.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";

const model = process.env.PARTYWALL_MODEL ?? "sim-small";
const client = new Anthropic({ maxRetries: 0, timeout: 60_000 });
const say = (content) => [{ role: "user", content }];

const weather = {
  name: "weather",
  description: "The weather in a city.",
  input_schema: {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
  },
};

const checks = {
  async message() {
    const answer = await client.messages.create({ model, max_tokens: 16, messages: say("hello") });
    assert.equal(answer.type, "message");
    assert.ok(answer.content[0].text);
    assert.ok(answer.usage.output_tokens > 0 && answer.usage.output_tokens <= 16);
    return `${answer.usage.output_tokens} tokens`;
  },

  async stream() {
    const stream = client.messages.stream({ model, max_tokens: 16, messages: say("hello") });
    let text = "";
    stream.on("text", (piece) => (text += piece));
    const final = await stream.finalMessage();
    assert.ok(text);
    assert.equal(final.content[0].text, text);
    return text.slice(0, 30);
  },

  async tools() {
    const answer = await client.messages.create({
      model,
      max_tokens: 64,
      messages: say("What is the weather in Oslo? Use the tool."),
      tools: [weather],
      tool_choice: { type: "tool", name: "weather" },
    });
    const call = answer.content.find((block) => block.type === "tool_use");
    assert.equal(typeof call.input.city, "string");
    return call.input.city;
  },

  async models() {
    const names = [];
    for await (const one of client.models.list({ limit: 1 })) names.push(one.id);
    assert.ok(names.includes(model));
    return names.join(", ");
  },

  async unknownModel() {
    const call = client.messages.create({ model: "none", max_tokens: 4, messages: say("hello") });
    const error = await call.then(() => assert.fail("it was answered"), (error) => error);
    assert.ok(error instanceof Anthropic.NotFoundError, error);
    return error.error.error.type;
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    console.log(`ok      ${name}: ${await check()}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}`);
    console.log(error);
  }
}
console.log(`${Object.keys(checks).length - failed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
