import { beforeEach, describe, expect, test } from 'vitest';
import * as z from 'zod';
import type { Notice } from '../../src/alerts.ts';
import { postNotice, type Webhook } from '../../src/channels/webhook.ts';
import { type Receiver, startReceiver } from '../receiver.ts';

let receiver: Receiver;
beforeEach(async () => {
  receiver = await startReceiver();
});

const notice: Notice = {
  event: 'failed',
  host: 'böx',
  subject: 'job/upload',
  title: 'Nexus on böx: upload_now has *failed* & <stopped>.',
  error: '/srv/__init__/a_b_c.jsonl: no. See `nexus_status --all` at https://x.example/a_b_c',
  at: '2026-11-23T10:00:00.000Z',
};

async function post(format: Webhook['format'], over: Partial<Notice> = {}, more: Partial<Webhook> = {}) {
  const webhook = { url: `${receiver.url}/hook`, format, pauseMs: 1, ...more };
  await postNotice(webhook, { ...notice, ...over }, 'an id', new AbortController().signal);
  const last = receiver.received.at(-1);
  if (last === undefined) throw new Error('Nothing came.');
  return last;
}

const slack = z.object({ text: z.string(), unfurl_links: z.literal(false) });
const discord = z.object({ content: z.string(), flags: z.literal(4), allowed_mentions: z.object({}) });
const long = { error: '&_'.repeat(5_000) };

describe('Slack', () => {
  test('gets the three characters that it asks to be escaped, and nothing cut within one', async () => {
    const { text } = slack.parse(JSON.parse((await post('slack')).body));
    expect(text).toContain('*Nexus on böx: upload_now has *failed* &amp; &lt;stopped&gt;.*');
    const cut = slack.parse(JSON.parse((await post('slack', long)).body)).text;
    expect(cut.length).toBeLessThan(40_000);
    expect(cut).not.toMatch(/&(?!amp;|lt;|gt;)/);
  });
});

describe('Discord', () => {
  test('shows names as they are, commands and links as they were, and mentions nobody', async () => {
    const { path, body } = await post('discord', {}, { url: `${receiver.url}/hook?thread_id=1` });
    expect(path).toBe('/hook?thread_id=1&wait=true');
    const { content } = discord.parse(JSON.parse(body));
    expect(content).toContain(String.raw`**Nexus on böx: upload\_now has \*failed\* & <stopped>.**`);
    expect(content).toContain(String.raw`/srv/\_\_init\_\_/a\_b\_c.jsonl`);
    expect(content).toContain('`nexus_status --all` at https://x.example/a_b_c');
  });

  test('gets no more than its 2000 characters', async () => {
    const { content } = discord.parse(JSON.parse((await post('discord', long)).body));
    expect(content.length).toBeLessThanOrEqual(2_000);
    const astral = discord.parse(JSON.parse((await post('discord', { error: '😀'.repeat(3_000) })).body));
    expect(astral.content.isWellFormed()).toBe(true);
  });
});

describe('ntfy', () => {
  test('gets a title that a header carries, and a body that is no attachment', async () => {
    const { headers, body } = await post('ntfy', { error: '😀ü'.repeat(3_000), title: 'Nöte\r\nX-Evil: 1' });
    const title = String(headers['title']);
    expect(title).toMatch(/^=\?UTF-8\?B\?[A-Za-z0-9+/=]+\?=$/);
    expect(Buffer.from(title.slice(10, -2), 'base64').toString()).toBe('Nöte X-Evil: 1');
    expect(headers['x-evil']).toBeUndefined();
    expect(Buffer.byteLength(body)).toBeLessThanOrEqual(4_096);
    expect(body).not.toContain('\ufffd');
  });
});

test.each(['slack', 'discord', 'ntfy'] as const)(
  '%s is told what to do, however long the error is',
  async (format) => {
    const { body } = await post(format, { ...long, next: 'Run this.' });
    expect(body).toMatch(/…(\\n|\n)Next: Run this\./);
  },
);

test('two subjects have two keys, whatever they are called', async () => {
  const keys = [];
  for (const subject of ['job/ü', 'job/ö', 'job/ ', 'job/_']) {
    await postNotice(
      { url: receiver.url, format: 'json' },
      { ...notice, subject },
      `at ${subject}`,
      new AbortController().signal,
    );
    keys.push(receiver.received.at(-1)?.headers['idempotency-key']);
  }
  expect(new Set(keys).size).toBe(4);
});

test.each([
  [503, /^The receiver is down or overloaded/],
  [400, /^Look at the URL of this channel/],
])('what to do about %i is said', async (status, hint) => {
  receiver.answer(status);
  await expect(post('json')).rejects.toMatchObject({ hint: expect.stringMatching(hint) });
});

test('a redirect is not followed, and said to be one', async () => {
  const other = await startReceiver();
  receiver.answer(307, { location: `${other.url}/elsewhere` });
  await expect(post('json', {}, { token: 's3cret' })).rejects.toMatchObject({
    message: expect.stringContaining('answered 307'),
    hint: expect.stringContaining('sends elsewhere'),
  });
  expect([receiver.received.length, other.received.length]).toEqual([1, 0]);
});

test.each(['s3cret\nx: y', 's3crét', ''])(
  'a token that no header can carry is said to be so: %j',
  async (token) => {
    await expect(post('json', {}, { token })).rejects.toMatchObject({
      code: 'config',
      message: expect.not.stringContaining('s3cr'),
    });
    expect(receiver.received).toHaveLength(0);
  },
);

test('a password with a lone percent sign is a password', async () => {
  const { headers } = await post('json', {}, { url: receiver.url.replace('//', '//me:100%@') });
  expect(headers['authorization']).toBe(`Basic ${Buffer.from('me:100%').toString('base64')}`);
});
