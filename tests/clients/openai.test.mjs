// The OpenAI SDK for JavaScript against a running server.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import {
  BASE_URL, KEY, CASES, CHAT, IMAGES_URL, MODEL, STORY, TWO_IMAGES,
  checkThatLeavingCancels, dataUrl, httpUrl, imageBytes, nameOf, request, waitUntilBusy,
} from './support.mjs';

// Without retries a test sees the first answer and not the luck of a later one.
const client = new OpenAI({ baseURL: BASE_URL, apiKey: KEY, maxRetries: 0, timeout: 60_000 });
const ask = (body, options) => client.chat.completions.create(body, options);

function checkUsage(usage, c) {
  assert.equal(usage.prompt_tokens, c.prompt_tokens);
  assert.equal(usage.completion_tokens, c.completion_tokens);
  assert.equal(usage.total_tokens, c.prompt_tokens + c.completion_tokens);
}

function checkAnswer(completion, c) {
  assert.equal(completion.choices.length, 1);
  assert.equal(completion.choices[0].message.content, c.answer);
  assert.equal(completion.choices[0].finish_reason, 'stop');
  checkUsage(completion.usage, c);
}

const textOf = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('');
const hasText = (chunk) => Boolean(chunk.choices[0]?.delta.content);

test('the reference covers what these tests are for', () => {
  assert.ok(CASES.length >= 20);
  assert.ok(TWO_IMAGES);
  assert.ok(CASES.some((c) => c.lang === 'zh' && c.images.length > 0));
});

for (const c of CASES) {
  test(`a plain answer is the reference: ${nameOf(c)}`, async () => {
    checkAnswer(await ask(request(c)), c);
  });

  test(`a streamed answer with images by URL is the reference and ends with its usage: ${nameOf(c)}`, async () => {
    const more = { stream: true, stream_options: { include_usage: true } };
    const chunks = await Array.fromAsync(await ask(request(c, more, httpUrl)));
    const last = chunks.pop();
    assert.deepEqual(last.choices, []);
    checkUsage(last.usage, c);
    assert.ok(chunks.every((chunk) => chunk.choices.length === 1 && chunk.usage === null));
    assert.equal(textOf(chunks), c.answer);
    assert.equal(chunks[0].choices[0].delta.role, 'assistant');
    assert.equal(chunks.at(-1).choices[0].finish_reason, 'stop');
    assert.equal(new Set([...chunks, last].map((chunk) => chunk.id)).size, 1);
  });
}

test('a stream without include_usage has no usage', async () => {
  const chunks = await Array.fromAsync(await ask(request(CHAT, { stream: true })));
  assert.equal(textOf(chunks), CHAT.answer);
  assert.ok(chunks.every((chunk) => chunk.choices.length === 1 && chunk.usage == null));
});

test('the stream helper puts the answer together', async () => {
  const stream = client.chat.completions.stream(request(STORY, { stream_options: { include_usage: true } }));
  let text = '';
  stream.on('content', (delta) => (text += delta));
  checkAnswer(await stream.finalChatCompletion(), STORY);
  assert.equal(text, STORY.answer);
});

test('an answer can be sent back as the SDK returned it', async () => {
  const first = request(CHAT);
  const { message } = (await ask(first)).choices[0];
  assert.equal(message.content, CHAT.answer);
  const again = await ask({ ...first, messages: [...first.messages, message, ...first.messages] });
  assert.ok(again.usage.prompt_tokens > 2 * CHAT.prompt_tokens);
  assert.equal(again.choices[0].finish_reason, 'stop');
});

test('a stop sequence ends the answer before itself', async () => {
  const stop = 'Every morning';
  const { choices } = await ask(request(STORY, { stop }));
  assert.equal(choices[0].message.content, STORY.answer.split(stop)[0]);
  assert.notEqual(choices[0].message.content, STORY.answer);
  assert.equal(choices[0].finish_reason, 'stop');
});

test('a token limit cuts the answer and says so', async () => {
  const completion = await ask(request(STORY, { max_completion_tokens: 5 }));
  const [choice] = completion.choices;
  assert.equal(choice.finish_reason, 'length');
  assert.equal(completion.usage.completion_tokens, 5);
  assert.ok(choice.message.content && STORY.answer.startsWith(choice.message.content));
});

test('the model is listed and can be retrieved', async () => {
  const listed = await Array.fromAsync(client.models.list());
  assert.deepEqual(listed.map((model) => model.id), [MODEL]);
  const model = await client.models.retrieve(MODEL);
  assert.equal(model.object, 'model');
  assert.deepEqual({ ...model }, { ...listed[0] });
});

test('an answer has an id, its time and the names of what was ignored', async () => {
  const body = request(CHAT, { user: 'someone', metadata: { order: '12' } });
  const { data, response, request_id } = await ask(body).withResponse();
  assert.match(request_id, /^req_[0-9a-f]{32}$/);
  assert.equal(response.headers.get('x-request-id'), request_id);
  assert.match(response.headers.get('openai-processing-ms'), /^\d+$/);
  assert.deepEqual(response.headers.get('x-porthole-ignored').split(', ').sort(), ['metadata', 'user']);
  checkAnswer(data, CHAT);
});

/** Checks that a request fails with this class and these fields of the error. */
async function checkError(promise, errorClass, status, code, param) {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof errorClass, `${error.constructor.name}: ${error.message}`);
    const { type, requestID } = error;
    assert.deepEqual({ status: error.status, code: error.code, param: error.param }, { status, code, param });
    assert.equal(type, 'invalid_request_error');
    assert.match(requestID, /^req_/);
    return true;
  });
}

const png = CASES.flatMap((c) => c.images).find((image) => image.endsWith('.png'));
const withImage = (url) => ({
  model: MODEL,
  messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url } }, { type: 'text', text: 'What?' }] }],
});
const IMAGE_PARAM = 'messages[0].content[0].image_url.url';

test('a bad value is a BadRequestError that names it', async () => {
  const body = request(CHAT, { temperature: 3 });
  await checkError(ask(body), OpenAI.BadRequestError, 400, 'invalid_value', 'temperature');
  await checkError(ask({ ...body, stream: true }), OpenAI.BadRequestError, 400, 'invalid_value', 'temperature');
});

test('an unknown model is a NotFoundError', async () => {
  const body = request(CHAT, { model: 'gpt-0' });
  await checkError(ask(body), OpenAI.NotFoundError, 404, 'model_not_found', 'model');
  await checkError(client.models.retrieve('gpt-0'), OpenAI.NotFoundError, 404, 'model_not_found', 'model');
});

test('a damaged image is an UnprocessableEntityError', async () => {
  const bytes = imageBytes(png);
  const body = withImage(dataUrl(png, bytes.subarray(0, bytes.length / 2)));
  await checkError(ask(body), OpenAI.UnprocessableEntityError, 422, 'invalid_image', IMAGE_PARAM);
});

test('a web page behind an image URL is a 415', async () => {
  // The listing of the folder is HTML.
  const body = withImage(`${IMAGES_URL}/`);
  await checkError(ask(body), OpenAI.APIError, 415, 'unsupported_image_type', IMAGE_PARAM);
});

test('a body over the limit is a 413 and not a broken connection', async () => {
  const content = 'x'.repeat(Number(process.env.PORTHOLE_TEST_MAX_BODY_BYTES) + 1);
  const body = { model: MODEL, messages: [{ role: 'user', content }] };
  await checkError(ask(body), OpenAI.APIError, 413, 'request_too_large', null);
});

test('a prompt beyond the context is a BadRequestError', async () => {
  const body = { model: MODEL, messages: [{ role: 'user', content: 'shape '.repeat(5000) }] };
  await checkError(ask(body), OpenAI.BadRequestError, 400, 'context_length_exceeded', 'messages');
});

test('streams aborted midway are not generated to their ends', async () => {
  await checkThatLeavingCancels(async (stories) => {
    for (let i = 0; i < stories; i++) {
      const controller = new AbortController();
      const stream = await ask(request(STORY, { stream: true }), { signal: controller.signal });
      for await (const chunk of stream) {
        if (hasText(chunk)) controller.abort();
      }
      // The SDK ends an aborted stream without an error.
      assert.ok(controller.signal.aborted);
    }
  });
});

test('streams left by break are not generated to their ends', async () => {
  await checkThatLeavingCancels(async (stories) => {
    for (let i = 0; i < stories; i++) {
      let left = false;
      for await (const chunk of await ask(request(STORY, { stream: true }))) {
        left = hasText(chunk);
        if (left) break;
      }
      assert.ok(left);
    }
  });
});

test('plain requests aborted while they wait are not generated', async () => {
  await checkThatLeavingCancels(async (stories) => {
    const controller = new AbortController();
    const asked = Array.from({ length: stories }, () => ask(request(STORY), { signal: controller.signal }));
    const settled = Promise.allSettled(asked);
    await waitUntilBusy(stories);
    controller.abort();
    const aborted = (await settled).filter(({ reason }) => reason instanceof OpenAI.APIUserAbortError);
    assert.ok(aborted.length > stories / 2);
  });
});

test('plain requests that the SDK gives up on are not generated', async () => {
  await checkThatLeavingCancels(async (stories) => {
    const asked = Array.from({ length: stories }, () => ask(request(STORY), { timeout: 200 }));
    const outcomes = await Promise.allSettled(asked);
    const late = outcomes.filter(({ reason }) => reason instanceof OpenAI.APIConnectionTimeoutError);
    assert.ok(late.length > stories / 2);
  });
});
