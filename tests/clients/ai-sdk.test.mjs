// Vercel's AI SDK, through its provider for OpenAI-compatible servers, against a running server.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, generateText, streamText } from 'ai';
import {
  BASE_URL, KEY, CASES, CHAT, MODEL, STORY, TWO_IMAGES,
  checkThatLeavingCancels, httpUrl, imageBytes, imageType, messagesWith, nameOf, waitUntilBusy,
} from './support.mjs';

const settings = { baseURL: BASE_URL, apiKey: KEY, name: 'porthole', includeUsage: true };
const porthole = createOpenAICompatible(settings);
const inline = (image) => ({ type: 'file', mediaType: imageType(image), data: imageBytes(image) });
const linked = (image) => ({ type: 'file', mediaType: imageType(image), data: new URL(httpUrl(image)) });

/** The arguments of a call that asks for a case's answer; without retries. */
const call = (c, more = {}, partOf = inline, provider = porthole) => ({
  model: provider(MODEL),
  messages: messagesWith(c, partOf),
  temperature: 0,
  maxRetries: 0,
  ...more,
});

/** Streams, with errors kept rather than printed. */
function start(c, more) {
  const errors = [];
  const result = streamText(call(c, { onError: ({ error }) => errors.push(error), ...more }));
  return { result, errors };
}

function checkUsage(usage, c) {
  assert.equal(usage.inputTokens, c.prompt_tokens);
  assert.equal(usage.outputTokens, c.completion_tokens);
  assert.equal(usage.totalTokens, c.prompt_tokens + c.completion_tokens);
}

for (const c of CASES) {
  test(`generateText gives the reference: ${nameOf(c)}`, async () => {
    const { text, finishReason, usage, warnings } = await generateText(call(c));
    assert.equal(text, c.answer);
    assert.equal(finishReason, 'stop');
    checkUsage(usage, c);
    assert.deepEqual(warnings ?? [], []);
  });
}

// One of each kind: with two images, in Chinese, of several turns, without an image, long.
const several = [TWO_IMAGES, CASES.find((c) => c.lang === 'zh'), CASES.find((c) => c.messages.length > 1), CHAT, STORY];

for (const c of several) {
  test(`streamText gives the reference and its usage: ${nameOf(c)}`, async () => {
    const { result, errors } = start(c);
    const deltas = await Array.fromAsync(result.textStream);
    assert.deepEqual(errors, []);
    assert.equal(deltas.join(''), c.answer);
    assert.ok(deltas.length > 1);
    assert.equal(await result.finishReason, 'stop');
    checkUsage(await result.usage, c);
  });
}

test('an image by URL, which the server fetches, gives the reference', async () => {
  const sent = [];
  // The SDK fetches images itself and sends their bytes, unless told that the server can.
  const fetching = createOpenAICompatible({
    ...settings,
    supportedUrls: () => ({ 'image/*': [/^http:/] }),
    fetch: (url, init) => {
      sent.push(init.body);
      return fetch(url, init);
    },
  });
  const { text, usage } = await generateText(call(TWO_IMAGES, {}, linked, fetching));
  assert.equal(sent.length, 1);
  for (const image of TWO_IMAGES.images) assert.ok(sent[0].includes(JSON.stringify(httpUrl(image))));
  assert.equal(text, TWO_IMAGES.answer);
  checkUsage(usage, TWO_IMAGES);
});

test('the older image part gives the reference too', async () => {
  const part = (image) => ({ type: 'image', image: imageBytes(image), mediaType: imageType(image) });
  const { text, usage } = await generateText(call(TWO_IMAGES, {}, part));
  assert.equal(text, TWO_IMAGES.answer);
  checkUsage(usage, TWO_IMAGES);
});

test('the messages of an answer can be sent back for the next turn', async () => {
  const first = call(CHAT);
  const { text, finalStep } = await generateText(first);
  assert.equal(text, CHAT.answer);
  const messages = [...first.messages, ...finalStep.response.messages, ...first.messages];
  const again = await generateText({ ...first, messages });
  assert.ok(again.usage.inputTokens > 2 * CHAT.prompt_tokens);
});

test('instructions become part of the prompt', async () => {
  const { usage } = await generateText(call(CHAT, { instructions: 'Be brief.' }));
  assert.ok(usage.inputTokens > CHAT.prompt_tokens);
});

test('a limit of tokens cuts the answer and says so', async () => {
  const { text, finishReason, usage } = await generateText(call(STORY, { maxOutputTokens: 5 }));
  assert.equal(finishReason, 'length');
  assert.equal(usage.outputTokens, 5);
  assert.ok(text && STORY.answer.startsWith(text));
});

test('a stop sequence ends the answer before itself', async () => {
  const { text, finishReason } = await generateText(call(STORY, { stopSequences: ['Every morning'] }));
  assert.equal(text, STORY.answer.split('Every morning')[0]);
  assert.equal(finishReason, 'stop');
});

function checkCallError(error, status, code, param) {
  assert.ok(APICallError.isInstance(error), String(error));
  assert.equal(error.statusCode, status);
  assert.equal(error.isRetryable, false);
  assert.equal(error.data.error.code, code);
  assert.equal(error.data.error.param, param);
  // The provider found the sentence where it expects it.
  assert.equal(error.message, error.data.error.message);
  assert.match(error.responseHeaders['x-request-id'], /^req_/);
  return true;
}

test('an unknown model is an APICallError with status 404', async () => {
  const model = porthole('gpt-0');
  const check = (error) => checkCallError(error, 404, 'model_not_found', 'model');
  await assert.rejects(generateText(call(CHAT, { model })), check);
});

test('an unknown model is told by a stream too', async () => {
  const { result, errors } = start(CHAT, { model: porthole('gpt-0') });
  const parts = await Array.fromAsync(result.stream);
  assert.equal(errors.length, 1);
  checkCallError(errors[0], 404, 'model_not_found', 'model');
  assert.deepEqual(parts.filter((part) => part.type === 'error').map((part) => part.error), errors);
});

test('a bad value is an APICallError that names it', async () => {
  const check = (error) => checkCallError(error, 400, 'invalid_value', 'temperature');
  await assert.rejects(generateText(call(CHAT, { temperature: 3 })), check);
});

test('a damaged image is an APICallError with status 422', async () => {
  const damaged = (image) => ({ type: 'file', mediaType: 'image/png', data: imageBytes(image).subarray(0, 300) });
  const check = (error) => checkCallError(error, 422, 'invalid_image', 'messages[0].content[0].image_url.url');
  await assert.rejects(generateText(call(STORY, {}, damaged)), check);
});

test('streams aborted midway are not generated to their ends', async () => {
  await checkThatLeavingCancels(async (stories) => {
    for (let i = 0; i < stories; i++) {
      const controller = new AbortController();
      const { result } = start(STORY, { abortSignal: controller.signal });
      const types = new Set();
      for await (const part of result.stream) {
        types.add(part.type);
        if (part.type === 'text-delta') controller.abort();
      }
      assert.ok(types.has('abort'), [...types].join());
    }
  });
});

test('plain requests aborted while they wait are not generated', async () => {
  await checkThatLeavingCancels(async (stories) => {
    const controller = new AbortController();
    const asked = Array.from({ length: stories }, () => generateText(call(STORY, { abortSignal: controller.signal })));
    const settled = Promise.allSettled(asked);
    await waitUntilBusy(stories);
    controller.abort();
    const aborted = (await settled).filter(({ reason }) => reason?.name === 'AbortError');
    assert.ok(aborted.length > stories / 2);
  });
});
