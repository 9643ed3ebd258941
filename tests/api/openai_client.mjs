// OpenAI's own client against two running nodes.
//   node openai_client.mjs URL URL MODEL     (URL: http://127.0.0.1:7465; both may be the same)
// Every check runs against both nodes. Prints one line for each; exits with 1 if one failed. SHOAL_API_KEY is sent as the key.
import assert from "node:assert/strict";
import OpenAI from "openai";

const [first, second, model] = process.argv.slice(2);
if (!model) {
  console.error("usage: node openai_client.mjs URL URL MODEL");
  process.exit(2);
}
const question = { model, messages: [{ role: "user", content: "What is the capital of France?" }], temperature: 0, seed: 1, max_tokens: 24 };

// Collects a stream and checks what every chunk of it must have.
async function collect(stream) {
  let text = "", finish = null, usage = null, id = null, chunks = 0;
  for await (const chunk of stream) {
    id ??= chunk.id;
    assert.equal(chunk.id, id, "one id throughout");
    assert.equal(chunk.object, "chat.completion.chunk");
    if (chunks++ === 0) assert.equal(chunk.choices[0].delta.role, "assistant");
    for (const choice of chunk.choices) {
      assert.equal(choice.index, 0);
      assert.equal(finish, null, "nothing follows the finish reason");
      text += choice.delta.content ?? "";
      finish = choice.finish_reason;
    }
    if (chunk.usage) usage = chunk.usage;
  }
  return { text, finish, usage, chunks };
}

async function refused(promise, status, param, words) {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof OpenAI.APIError, `an API error, not ${error}`);
    assert.equal(error.status, status, error.message);
    assert.equal(error.param, param, error.message);
    assert.ok(error.type);
    assert.match(error.message, words);
    return true;
  });
}

const checks = {
  async "a chat, whole and streamed, says the same"(client, shared) {
    const whole = await client.chat.completions.create(question);
    assert.equal(whole.object, "chat.completion");
    assert.equal(whole.choices.length, 1);
    assert.equal(whole.choices[0].message.role, "assistant");
    assert.ok(whole.choices[0].message.content.length > 0);
    assert.ok(["stop", "length"].includes(whole.choices[0].finish_reason));
    assert.ok(whole.usage.prompt_tokens > 0 && whole.usage.completion_tokens > 0);
    assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
    const streamed = await collect(await client.chat.completions.create({ ...question, stream: true, stream_options: { include_usage: true } }));
    assert.equal(streamed.text, whole.choices[0].message.content);
    assert.equal(streamed.finish, whole.choices[0].finish_reason);
    assert.deepEqual(streamed.usage, whole.usage);
    assert.ok(streamed.chunks > 3, "the answer comes in pieces");
    shared.answers.push(streamed.text);
  },

  async "the client's own stream helper puts the answer together"(client) {
    const runner = client.chat.completions.stream(question);
    let heard = "";
    runner.on("content", (delta) => (heard += delta));
    const final = await runner.finalChatCompletion();
    assert.equal(final.choices[0].message.content, heard);
    assert.ok(final.choices[0].finish_reason);
  },

  async "sampling follows its seed"(client) {
    const draw = async (seed) => (await client.chat.completions.create({ ...question, temperature: 1, top_p: 0.95, seed })).choices[0].message.content;
    assert.equal(await draw(7), await draw(7));
  },

  async "max_completion_tokens ends an answer"(client) {
    const { max_tokens, ...rest } = question;
    const answer = await client.chat.completions.create({ ...rest, max_completion_tokens: 2 });
    assert.equal(answer.choices[0].finish_reason, "length");
    assert.equal(answer.usage.completion_tokens, 2);
  },

  async "a stop string ends an answer and is not shown"(client) {
    const answer = await client.completions.create({ model, prompt: "one, two, three,", temperature: 0, max_tokens: 24, stop: [","] });
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.ok(!answer.choices[0].text.includes(","));
  },

  async "log probabilities of a chat"(client) {
    const answer = await client.chat.completions.create({ ...question, max_tokens: 4, logprobs: true, top_logprobs: 3 });
    const tokens = answer.choices[0].logprobs.content;
    assert.equal(tokens.length, answer.usage.completion_tokens);
    for (const token of tokens) {
      assert.ok(token.logprob <= 0);
      assert.equal(token.top_logprobs.length, 3);
      assert.equal(token.top_logprobs[0].token, token.token, "greedy takes the most likely");
      assert.ok(token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob);
    }
    const bytes = tokens.flatMap((token) => token.bytes);
    assert.ok(new TextDecoder().decode(new Uint8Array(bytes)).startsWith(answer.choices[0].message.content));
  },

  async "a completion from text and from token ids, with log probabilities"(client) {
    const byText = await client.completions.create({ model, prompt: "The sky is", temperature: 0, max_tokens: 5, logprobs: 2 });
    assert.equal(byText.object, "text_completion");
    const { tokens, token_logprobs, top_logprobs, text_offset } = byText.choices[0].logprobs;
    assert.equal(tokens.length, byText.usage.completion_tokens);
    assert.equal(token_logprobs.length, tokens.length);
    assert.equal(text_offset.length, tokens.length);
    assert.ok(top_logprobs.every((top) => Object.keys(top).length === 2));
    const ids = [1, 2, 3, 4, 5];
    const byIds = await client.completions.create({ model, prompt: ids, temperature: 0, max_tokens: 5 });
    assert.equal(byIds.usage.prompt_tokens, ids.length, "token ids are taken as they are");
    const nested = await client.completions.create({ model, prompt: [ids], temperature: 0, max_tokens: 5 });
    assert.equal(nested.choices[0].text, byIds.choices[0].text);
  },

  async "an echoed prompt is scored"(client) {
    const answer = await client.completions.create({ model, prompt: "The sky is blue", echo: true, logprobs: 1, temperature: 0, max_tokens: 1 });
    assert.ok(answer.choices[0].text.startsWith("The sky is blue"));
    const { tokens, token_logprobs } = answer.choices[0].logprobs;
    assert.equal(tokens.length, answer.usage.prompt_tokens + answer.usage.completion_tokens);
    assert.equal(token_logprobs[0], null);
    assert.ok(token_logprobs.slice(1).every((value) => value <= 0));
  },

  async "models are listed and shown"(client) {
    const list = await client.models.list();
    assert.ok(list.data.some((entry) => entry.id === model), `${model} among ${list.data.map((entry) => entry.id)}`);
    assert.equal((await client.models.retrieve(model)).object, "model");
  },

  async "errors have the shape that the client shows"(client) {
    await refused(client.chat.completions.create({ ...question, messages: [] }), 400, "messages", /at least one/);
    await refused(client.chat.completions.create({ ...question, messages: [{ role: "wizard", content: "x" }] }), 400, "messages[0].role", /wizard/);
    await refused(client.chat.completions.create({ ...question, temperature: "hot" }), 400, "temperature", /number/);
    await refused(client.completions.create({ model, prompt: "a", suffix: "b" }), 400, "suffix", /not supported/);
    await refused(client.chat.completions.create({ ...question, model: "no-such-model:1b" }), 404, "model", /shoal /);
    await refused(client.models.retrieve("no-such-model:1b"), 404, "model", /shoal pull no-such-model:1b/);
  },

  async "a prompt longer than the context is refused with both numbers"(client) {
    const endless = "word ".repeat(200_000);
    await assert.rejects(client.completions.create({ model, prompt: endless }), (error) => {
      assert.equal(error.status, 400, error.message);
      assert.equal(error.code, "context_length_exceeded");
      assert.match(error.message, /\d+.*\d+/);
      return true;
    });
  },

  async "a stream that the client leaves ends, and the next request works"(client) {
    const stream = await client.chat.completions.create({ ...question, max_tokens: 2000, stream: true });
    let seen = 0;
    for await (const chunk of stream) {
      if (++seen === 3) stream.controller.abort();
    }
    assert.ok(seen >= 3);
    const next = await client.chat.completions.create({ ...question, max_tokens: 2 });
    assert.ok(next.usage.completion_tokens > 0);
  },
};

const shared = { answers: [] };
let failures = 0;
for (const url of [first, second]) {
  const base = (url.includes("://") ? url : `http://${url}`).replace(/\/(v1\/?)?$/, "");
  const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: process.env.SHOAL_API_KEY ?? "none", maxRetries: 0, timeout: 120_000 });
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check(client, shared);
      console.log(`ok      ${base}  ${name}`);
    } catch (error) {
      ++failures;
      console.log(`FAILED  ${base}  ${name}\n${error.stack}`);
    }
  }
}
if (shared.answers.length === 2 && shared.answers[0] !== shared.answers[1]) {
  ++failures;
  console.log(`FAILED  the nodes answer differently:\n${shared.answers.join("\n---\n")}`);
}
process.exit(failures ? 1 : 0);
