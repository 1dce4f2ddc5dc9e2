// The helpers of the OpenAI SDK for JavaScript: tools, forms of answers by Zod, responses.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { zodFunction, zodResponseFormat, zodResponsesFunction, zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import {
  BASE_URL, KEY, CASES, CHAT, DRAWING, LISTING, MODEL, STORY, TOOL, TOOL_CALL,
  dataUrl, messagesWith, nameOf, request,
} from './support.mjs';

const client = new OpenAI({ baseURL: BASE_URL, apiKey: KEY, maxRetries: 0, timeout: 60_000 });
const chat = client.chat.completions;

const Drawing = z.object({
  shape: z.enum(['circle', 'square', 'triangle', 'star', 'heart', 'cross', 'diamond', 'ring']),
  color: z.enum(['red', 'green', 'blue', 'yellow', 'orange', 'purple', 'pink', 'black', 'white', 'gray']),
  count: z.int().min(1).max(5),
});
// Nothing that the model ever saw.
const Shop = z.object({
  sizes: z.array(z.enum(['small', 'large'])).min(1).max(3),
  owner: z.object({ name: z.string().max(8), age: z.int().min(18).max(99) }).nullable(),
  open: z.boolean(),
});
const Item = z.object({ item: z.string().max(20) });

const called = (f) => ({ name: f.name, arguments: JSON.parse(f.arguments) });
const textOf = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('');

test('parse gives what the model would say anyway', async () => {
  const completion = await chat.parse(request(LISTING, { response_format: zodResponseFormat(Drawing, 'drawing') }));
  assert.deepEqual(completion.choices[0].message.parsed, DRAWING);
  assert.equal(completion.choices[0].message.refusal, null);
});

test('parse gives what nobody taught the model', async () => {
  const body = request(CHAT, { response_format: zodResponseFormat(Shop, 'shop'), max_completion_tokens: 400 });
  const { parsed } = (await chat.parse(body)).choices[0].message;
  assert.deepEqual(Shop.parse(parsed), parsed);
});

test('a parsed stream grows to the whole', async () => {
  const stream = chat.stream(request(LISTING, { response_format: zodResponseFormat(Drawing, 'drawing') }));
  const grown = [];
  stream.on('content.delta', ({ parsed }) => grown.push(structuredClone(parsed)));
  const done = stream.emitted('content.done');
  const completion = await stream.finalChatCompletion();
  assert.deepEqual((await done).parsed, DRAWING);
  assert.deepEqual(completion.choices[0].message.parsed, DRAWING);
  assert.ok(grown.some((parsed) => parsed?.shape === DRAWING.shape && parsed.color === undefined));
});

test('the model calls a tool', async () => {
  const { choices, usage } = await chat.create(request(TOOL, { tools: TOOL.tools }));
  assert.equal(choices[0].finish_reason, 'tool_calls');
  assert.equal(choices[0].message.content, null);
  assert.deepEqual(choices[0].message.tool_calls.map((call) => called(call.function)), [TOOL_CALL]);
  assert.equal(usage.prompt_tokens, TOOL.prompt_tokens);
});

test('a streamed call comes in deltas', async () => {
  const stream = chat.stream(request(TOOL, { tools: [zodFunction({ name: 'check_stock', parameters: Item })] }));
  const deltas = [];
  stream.on('tool_calls.function.arguments.delta', ({ arguments_delta }) => deltas.push(arguments_delta));
  const done = stream.emitted('tool_calls.function.arguments.done');
  const [call] = (await stream.finalMessage()).tool_calls;
  assert.ok(deltas.length > 1);
  assert.equal(deltas.join(''), call.function.arguments);
  assert.deepEqual((await done).parsed_arguments, call.function.parsed_arguments);
  assert.equal(typeof call.function.parsed_arguments.item, 'string');
});

for (const stream of [false, true]) {
  test(`runTools goes on to an answer, ${stream ? 'streamed' : 'plain'}`, async () => {
    const asked = [];
    const check_stock = (args) => {
      asked.push(args);
      return { stock: 7 };
    };
    const { function: definition } = TOOL.tools[0];
    const tools = [{ type: 'function', function: { ...definition, function: check_stock, parse: JSON.parse } }];
    const runner = chat.runTools({ ...request(TOOL), tools, stream }, { maxChatCompletions: 4 });
    assert.ok(await runner.finalContent());
    assert.deepEqual(asked, [TOOL_CALL.arguments]);
    assert.deepEqual(runner.messages.map((m) => m.role), ['user', 'assistant', 'tool', 'assistant']);
  });
}

test('a tool that is named is called', async () => {
  const tool_choice = { type: 'function', function: { name: 'check_stock' } };
  const more = { tool_choice, parallel_tool_calls: false, max_completion_tokens: 200 };
  const [call] = (await chat.create(request(CHAT, { tools: TOOL.tools, ...more }))).choices[0].message.tool_calls;
  assert.equal(call.function.name, 'check_stock');
  assert.equal(typeof JSON.parse(call.function.arguments).item, 'string');
});

test('a seed repeats its answers, streamed or not', async () => {
  const wild = request(STORY, { temperature: 2, seed: 7, n: 2, max_completion_tokens: 16 });
  const first = (await chat.create(wild)).choices.map((choice) => choice.message.content);
  assert.notEqual(first[0], first[1]);
  const streamed = await chat.stream(wild).finalChatCompletion();
  assert.deepEqual(streamed.choices.map((choice) => choice.message.content), first);
});

test('logprobs spell the answer', async () => {
  const { choices } = await chat.create(request(CHAT, { logprobs: true, top_logprobs: 2 }));
  const bytes = choices[0].logprobs.content.flatMap((entry) => entry.bytes);
  assert.equal(Buffer.from(bytes).toString(), CHAT.answer);
});

test('a text goes on, streamed or not', async () => {
  const body = { model: MODEL, prompt: 'It is a', temperature: 0, max_tokens: 8 };
  const { choices } = await client.completions.create(body);
  assert.ok(choices[0].text);
  const chunks = await Array.fromAsync(await client.completions.create({ ...body, stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0]?.text ?? '').join(''), choices[0].text);
});

// --- Responses ---

/** A case's messages as input items. */
function inputOf(c) {
  const image = (name) => ({ type: 'input_image', image_url: dataUrl(name), detail: 'auto' });
  return messagesWith(c, image).map(({ role, content }) => {
    const type = role === 'assistant' ? 'output_text' : 'input_text';
    const part = (p) => (p.type === 'text' ? { type, text: p.text } : p);
    return { role, content: Array.isArray(content) ? content.map(part) : content };
  });
}
const asked = (c, more = {}) => ({ model: MODEL, input: inputOf(c), temperature: 0, store: false, ...more });

function checkResponse(response, c) {
  assert.equal(response.output_text, c.answer);
  assert.equal(response.status, 'completed');
  assert.equal(response.usage.input_tokens, c.prompt_tokens);
  assert.equal(response.usage.output_tokens, c.completion_tokens);
}

for (const c of CASES) {
  test(`a response is the reference: ${nameOf(c)}`, async () => {
    checkResponse(await client.responses.create(asked(c)), c);
  });
}

test('a streamed response is the reference', async () => {
  const stream = client.responses.stream(asked(STORY));
  let text = '';
  stream.on('response.output_text.delta', ({ delta }) => (text += delta));
  checkResponse(await stream.finalResponse(), STORY);
  assert.equal(text, STORY.answer);
});

test('a response is parsed by Zod', async () => {
  const text = { format: zodTextFormat(Drawing, 'drawing') };
  const response = await client.responses.parse(asked(LISTING, { text }));
  assert.deepEqual(response.output_parsed, DRAWING);
});

test('a response calls a tool and answers with its result', async () => {
  const tools = [zodResponsesFunction({ name: 'check_stock', parameters: Item })];
  const input = inputOf(TOOL);
  const first = await client.responses.parse(asked(TOOL, { tools }));
  const [call] = first.output.filter((item) => item.type === 'function_call');
  assert.equal(call.name, 'check_stock');
  assert.equal(typeof call.parsed_arguments.item, 'string');
  const { parsed_arguments, ...sent } = call;
  input.push(sent, { type: 'function_call_output', call_id: call.call_id, output: '{"stock": 7}' });
  const second = await client.responses.create(asked(TOOL, { input, tools, tool_choice: 'none' }));
  assert.ok(second.output_text);
});

test('what a server that keeps nothing cannot do is a BadRequestError', async () => {
  await assert.rejects(client.responses.create(asked(CHAT, { previous_response_id: 'resp_1' })), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, 'previous_response_id');
    return true;
  });
});

test('a streamed JSON object is one in the end', async () => {
  const body = request(LISTING, { response_format: { type: 'json_object' } });
  const chunks = await Array.fromAsync(await chat.create({ ...body, stream: true }));
  assert.deepEqual(JSON.parse(textOf(chunks)), DRAWING);
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'stop');
});
