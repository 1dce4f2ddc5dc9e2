// Vercel's AI SDK through each of its providers: objects, tools in several steps, images.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import {
  APICallError, defaultSettingsMiddleware, generateObject, generateText, isStepCount, Output, streamText, tool,
  wrapLanguageModel,
} from 'ai';
import { z } from 'zod';
import {
  BASE_URL, KEY, CHAT, DRAWING, LISTING, MODEL, STORY, TOOL, TOOL_CALL, TWO_IMAGES,
  imageBytes, imageType, messagesWith, nameOf,
} from './support.mjs';

const openai = createOpenAI({ baseURL: BASE_URL, apiKey: KEY });
const compatible = createOpenAICompatible({
  baseURL: BASE_URL,
  apiKey: KEY,
  name: 'porthole',
  includeUsage: true,
  supportsStructuredOutputs: true,
});
// The default of @ai-sdk/openai is the Responses API. Nothing is stored here; told so, it sends the
// texts of earlier answers whole and not by reference.
const PROVIDERS = {
  'responses, as it is': { model: openai(MODEL) },
  responses: { model: openai(MODEL), providerOptions: { openai: { store: false } } },
  chat: { model: openai.chat(MODEL) },
  compatible: { model: compatible(MODEL) },
};

const Drawing = z.object({
  shape: z.enum(['circle', 'square', 'triangle', 'star', 'heart', 'cross', 'diamond', 'ring']),
  color: z.enum(['red', 'green', 'blue', 'yellow', 'orange', 'purple', 'pink', 'black', 'white', 'gray']),
  count: z.int().min(1).max(5),
});
const file = (image) => ({ type: 'file', mediaType: imageType(image), data: imageBytes(image) });
const call = (provider, c, more = {}) => ({
  ...provider,
  messages: messagesWith(c, file),
  temperature: 0,
  maxRetries: 0,
  ...more,
});

/** The model's tool, and what it was asked. */
function stock() {
  const asked = [];
  const check_stock = tool({
    description: 'Check the stock of an item.',
    inputSchema: z.object({ item: z.string().max(20) }),
    execute: (input) => {
      asked.push(input);
      return { stock: 7 };
    },
  });
  return { asked, tools: { check_stock } };
}

for (const [name, provider] of Object.entries(PROVIDERS)) {
  for (const c of [CHAT, STORY, TWO_IMAGES]) {
    test(`${name}: generateText gives the reference: ${nameOf(c)}`, async () => {
      const { text, usage, finishReason } = await generateText(call(provider, c));
      assert.equal(text, c.answer);
      assert.equal(finishReason, 'stop');
      assert.equal(usage.inputTokens, c.prompt_tokens);
      assert.equal(usage.outputTokens, c.completion_tokens);
    });
  }

  test(`${name}: streamText gives the reference`, async () => {
    const errors = [];
    const result = streamText(call(provider, STORY, { onError: ({ error }) => errors.push(error) }));
    const deltas = await Array.fromAsync(result.textStream);
    assert.deepEqual(errors, []);
    assert.equal(deltas.join(''), STORY.answer);
    assert.ok(deltas.length > 10);
    assert.equal((await result.usage).outputTokens, STORY.completion_tokens);
  });

  test(`${name}: an object is what its schema allows`, async () => {
    const { output } = await generateText(call(provider, LISTING, { output: Output.object({ schema: Drawing }) }));
    assert.deepEqual(output, DRAWING);
  });

  test(`${name}: generateObject gives it too`, async () => {
    const { object } = await generateObject(call(provider, LISTING, { schema: Drawing }));
    assert.deepEqual(object, DRAWING);
  });

  test(`${name}: an object grows as it is streamed`, async () => {
    const { partialOutputStream, output } = streamText(
      call(provider, LISTING, { output: Output.object({ schema: Drawing }) }),
    );
    const partial = await Array.fromAsync(partialOutputStream);
    assert.deepEqual(partial.at(-1), DRAWING);
    assert.ok(partial.length > 2);
    assert.deepEqual(await output, DRAWING);
  });

  test(`${name}: a choice is one of those given`, async () => {
    const options = ['sunny', 'rainy', 'snowy'];
    const { output } = await generateText(
      call(provider, CHAT, { output: Output.choice({ options }), maxOutputTokens: 200 }),
    );
    assert.ok(options.includes(output));
  });

  test(`${name}: tools are called in several steps`, async () => {
    const { asked, tools } = stock();
    const { text, steps } = await generateText(call(provider, TOOL, { tools, stopWhen: isStepCount(4) }));
    assert.deepEqual(asked, [TOOL_CALL.arguments]);
    assert.ok(text);
    assert.deepEqual(steps.map((step) => step.finishReason), ['tool-calls', 'stop']);
  });

  test(`${name}: streamed tools are called in several steps`, async () => {
    const { asked, tools } = stock();
    const errors = [];
    const onError = ({ error }) => errors.push(error);
    const result = streamText(call(provider, TOOL, { tools, stopWhen: isStepCount(4), onError }));
    const types = (await Array.fromAsync(result.stream)).map((part) => part.type);
    assert.deepEqual(errors, []);
    assert.deepEqual(asked, [TOOL_CALL.arguments]);
    assert.ok(types.includes('tool-input-delta') && types.includes('tool-result'));
    assert.ok(await result.text);
  });

  for (const toolChoice of ['required', { type: 'tool', toolName: 'check_stock' }]) {
    test(`${name}: a tool can be made to be called: ${JSON.stringify(toolChoice)}`, async () => {
      const { asked, tools } = stock();
      const { toolCalls } = await generateText(call(provider, CHAT, { tools, toolChoice, maxOutputTokens: 200 }));
      assert.ok(toolCalls.length > 0);
      assert.ok(toolCalls.every((each) => each.toolName === 'check_stock'));
      assert.equal(asked.length, toolCalls.length);
    });
  }

  test(`${name}: a tool can be kept from being called`, async () => {
    const { asked, tools } = stock();
    const { text } = await generateText(call(provider, TOOL, { tools, toolChoice: 'none', maxOutputTokens: 60 }));
    assert.deepEqual(asked, []);
    assert.ok(text);
  });
}

// The other providers send what a tool shows as text, in base64.
test('responses: a tool may show an image', async () => {
  const image = TOOL.images[0];
  const data = imageBytes(image).toString('base64');
  const check_stock = tool({
    description: 'Check the stock of an item.',
    inputSchema: z.object({ item: z.string().max(20) }),
    execute: () => 'seen',
    toModelOutput: () => ({
      type: 'content',
      value: [
        { type: 'text', text: 'seven' },
        { type: 'file', mediaType: imageType(image), data: { type: 'data', data } },
      ],
    }),
  });
  const options = { tools: { check_stock }, stopWhen: isStepCount(4), maxOutputTokens: 100 };
  const { text, steps } = await generateText(call(PROVIDERS.responses, TOOL, options));
  assert.ok(text);
  assert.equal(steps.length, 2);
  // An image has a start and an end beside its own tokens; the call and its result have some more.
  const [t, h, w] = TOOL.image_grid_thw[0];
  const more = steps[1].usage.inputTokens - steps[0].usage.inputTokens;
  assert.ok(more > (t * h * w) / 4 + 2 && more < 200, `${more} tokens`);
});

/** What a first answer leads to: its messages, and another question. */
async function nextTurn(provider) {
  const first = call(provider, CHAT);
  const { finalStep } = await generateText(first);
  return { ...first, messages: [...first.messages, ...finalStep.response.messages, ...first.messages] };
}

for (const generate of [generateText, async (options) => {
  const errors = [];
  const result = streamText({ ...options, onError: ({ error }) => errors.push(error) });
  await Array.fromAsync(result.stream);
  if (errors.length) throw errors[0];
}]) {
  test('responses: a text referred to is refused, with what to do', async () => {
    const turn = await nextTurn({ model: openai(MODEL) });
    await assert.rejects(generate(turn), (error) => {
      assert.ok(APICallError.isInstance(error), String(error));
      assert.equal(error.statusCode, 400);
      assert.equal(error.isRetryable, false);
      assert.equal(error.data.error.code, 'item_not_found');
      assert.equal(error.data.error.param, `input[${CHAT.messages.length}].id`);
      assert.match(error.message, /store: false/);
      return true;
    });
  });
}

test('responses: one setting for a model makes all turns go whole', async () => {
  const settings = { providerOptions: { openai: { store: false } } };
  const model = wrapLanguageModel({ model: openai(MODEL), middleware: defaultSettingsMiddleware({ settings }) });
  const { usage, text } = await generateText(await nextTurn({ model }));
  assert.ok(text);
  assert.ok(usage.inputTokens > 2 * CHAT.prompt_tokens);
});
