// What the tests share: the demo model's reference answers, spelled as requests, and the metrics.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

export const BASE_URL = process.env.PORTHOLE_TEST_URL + '/v1';
export const IMAGES_URL = process.env.PORTHOLE_TEST_IMAGES_URL;
const METRICS_URL = process.env.PORTHOLE_TEST_ADMIN_URL + '/metrics';
export const KEY = process.env.PORTHOLE_TEST_KEY;
const DEMO = process.env.PORTHOLE_TEST_DEMO;
export const MODEL = 'demo';

// Where the two best tokens are as close as this, rounding decides, which differs between machines.
const CLOSE = 0.2;

const all = JSON.parse(readFileSync(join(DEMO, 'reference.json'), 'utf8')).cases;
export const CASES = all.filter((c) => !c.tools && c.smallest_logit_margin >= CLOSE);
export const STORY = CASES.find((c) => c.type === 'story');
export const CHAT = CASES.find((c) => c.type === 'chat');
export const LISTING = CASES.find((c) => c.type === 'json');
export const DRAWING = JSON.parse(LISTING.answer);
// Asked with its tools, the model calls one of them.
export const TOOL = all.find((c) => c.tools);
export const TOOL_CALL = { name: 'check_stock', arguments: { item: 'blue circle' } };
assert.ok(TOOL.answer.includes('"blue circle"'));
export const TWO_IMAGES = CASES.find((c) => c.images.length === 2);

export const nameOf = (c) => `${c.id}-${c.type}-${c.lang}`;

export const imageBytes = (image) => readFileSync(join(DEMO, image));
export const imageType = (image) => (image.endsWith('.jpg') ? 'image/jpeg' : 'image/png');
export const httpUrl = (image) => `${IMAGES_URL}/${basename(image)}`;
export const dataUrl = (image, bytes = imageBytes(image)) =>
  `data:${imageType(image)};base64,${Buffer.from(bytes).toString('base64')}`;

/** A case's messages with each image, in order, replaced by what `partOf` makes of it. */
export function messagesWith(c, partOf) {
  const images = c.images.values();
  const part = (p) => (p.type === 'image' ? partOf(images.next().value) : p);
  return c.messages.map((message) =>
    Array.isArray(message.content) ? { ...message, content: message.content.map(part) } : message,
  );
}

/** The body of a request that asks for a case's answer. */
export function request(c, more = {}, urlOf = dataUrl) {
  const messages = messagesWith(c, (image) => ({ type: 'image_url', image_url: { url: urlOf(image) } }));
  return { model: MODEL, messages, temperature: 0, ...more };
}

async function metrics() {
  const text = await (await fetch(METRICS_URL)).text();
  return (name) => {
    // Over all its labels.
    const lines = text.split('\n').filter((l) => l.startsWith(name + ' ') || l.startsWith(name + '{'));
    assert.ok(lines.length > 0, `/metrics has no ${name}`);
    return lines.reduce((sum, l) => sum + Number(l.slice(l.lastIndexOf(' ') + 1)), 0);
  };
}

/** Generations that run or wait. */
export async function atWork() {
  const of = await metrics();
  return of('porthole_requests_running') + of('porthole_requests_waiting');
}

/** Polls until the condition holds; fails when it does not in time. */
export async function waitUntil(condition, seconds, what) {
  const deadline = performance.now() + seconds * 1000;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `not within ${seconds} s: ${what}`);
    await pause(10);
  }
}

/**
 * Asks for many stories by `leave`, which must leave them midway, and checks that the engine let
 * go of them: soon idle, with few tokens spent. One story is over in a moment, so being idle alone
 * would prove nothing; without cancellation, the tokens of all stories would be spent.
 */
export async function checkThatLeavingCancels(leave) {
  const stories = 24;
  const generated = async () => (await metrics())('porthole_generation_tokens_total');
  await waitUntil(async () => (await atWork()) === 0, 10, 'an idle engine to begin with');
  const before = await generated();
  await leave(stories);
  await waitUntil(async () => (await atWork()) === 0, 2, 'an idle engine after its clients left');
  const after = await generated();
  const whole = stories * STORY.completion_tokens;
  assert.ok(after - before < whole / 2, `${after - before} of ${whole} tokens were generated`);

  // The next answer is right, and the counter does count.
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${KEY}` };
  const body = JSON.stringify(request(CHAT));
  const answer = await (await fetch(BASE_URL + '/chat/completions', { method: 'POST', headers, body })).json();
  assert.equal(answer.choices[0].message.content, CHAT.answer);
  await waitUntil(async () => (await atWork()) === 0, 2, 'an idle engine after an answer');
  assert.equal((await generated()) - after, CHAT.completion_tokens);
}

/** Waits until most of `stories` requests have reached the engine. */
export const waitUntilBusy = (stories) =>
  waitUntil(async () => (await atWork()) >= stories / 2, 10, 'a busy engine');
