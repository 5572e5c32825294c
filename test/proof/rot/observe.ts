import { createHash } from 'node:crypto';
import { failedWith } from '../../../src/errors.ts';
import { runJob } from '../../../src/jobs/job.ts';
import type { Webhooks } from '../../../src/mailbox.ts';
import type { Nexus } from '../../../src/nexus.ts';
import { openSessions } from '../../../src/sessions.ts';
import type { Store } from '../../../src/stores/store.ts';
import { openWebhooks } from '../../../src/webhooks.ts';
import type { Made } from './made.ts';

/** What a store gives out, by name, as text to compare; and what was named as damaged. */
export interface Observed {
  /** Digests of what is stored, whatever the card says of it. */
  bytes: Map<string, string>;
  /** What is said of them, and of webhooks. */
  said: Map<string, string>;
  named: string[];
  /** What failed in a way that nobody promised. */
  unexpected: string[];
}

export function nothingSeen(): Observed {
  return { bytes: new Map(), said: new Map(), named: [], unexpected: [] };
}

export const digestOf = (bytes: Uint8Array | string): string =>
  createHash('sha256').update(bytes).digest('hex');

/** Reads everything that a store gives out, as `nexus serve` and the jobs do. */
export async function observe(open: () => Promise<Store>): Promise<Observed> {
  const seen = nothingSeen();
  await attempt(seen, 'open', async () => {
    const store = await open();
    try {
      await attempt(seen, 'transcripts', () => seeTranscripts(seen, openSessions(store)));
      await attempt(seen, 'webhooks', () => seeWebhooks(seen, openWebhooks(store)));
    } finally {
      await store.close();
    }
  });
  return seen;
}

/** Names what is corrupt; every other failure is one that nobody promised. */
export async function attempt(seen: Observed, what: string, work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    // What is gone is compared with what was there.
    if (failedWith(error, 'not_found')) return;
    if (failedWith(error, 'corrupt')) seen.named.push(`${what}: ${error.message}`);
    else seen.unexpected.push(`${what}: ${error instanceof Error ? (error.stack ?? '') : String(error)}`);
  }
}

async function seeTranscripts(seen: Observed, nexus: Nexus): Promise<void> {
  for await (const card of nexus.list({ damaged: ({ item }) => seen.named.push(item) })) {
    const name = `${card.agent}/${card.transcript}`;
    seen.said.set(name, JSON.stringify(card));
    await attempt(seen, name, async () => {
      const hash = createHash('sha256');
      for await (const piece of nexus.read(card.agent, card.transcript)) hash.update(piece);
      seen.bytes.set(name, hash.digest('hex'));
    });
  }
}

async function seeWebhooks(seen: Observed, webhooks: Webhooks): Promise<void> {
  for (let after: Parameters<Webhooks['pending']>[0]['after']; ; ) {
    const page = await webhooks.pending({
      agents: ['main'],
      limit: 5,
      ...(after === undefined ? {} : { after }),
    });
    for (const { id } of page.broken ?? []) seen.named.push(id);
    for (const item of page.items) seen.said.set(`pending ${item.id}`, JSON.stringify(item));
    if (page.next === undefined) break;
    after = page.next;
  }
  for await (const item of webhooks.list({ agent: 'main', broken: ({ id }) => seen.named.push(id) })) {
    seen.said.set(`listed ${item.id}`, JSON.stringify(item));
    await attempt(seen, item.id, async () => {
      seen.bytes.set(item.id, digestOf((await webhooks.body(item.id)).body));
    });
  }
}

/** What `backfill --verify` of this process names. */
export async function verify(made: Made, open: () => Promise<Store>): Promise<Observed> {
  const seen = nothingSeen();
  await attempt(seen, 'verify', async () => {
    const request = {
      job: 'backfill',
      agents: [],
      dryRun: false,
      everything: true,
      all: false,
      verify: true,
    } as const;
    const { report } = await runJob(request, {
      config: made.config,
      env: made.env,
      openNexus: async () => openSessions(await open()),
      signal: new AbortController().signal,
      now: () => new Date(),
      warn: () => undefined,
      progress: () => undefined,
    });
    seen.named.push(...report.failed.map(({ item, reason }) => `${item}: ${reason}`));
  });
  return seen;
}

/**
 * What is wrong with what was seen, `undefined` where nothing is. Bytes are the right ones or are not given out; what is
 * said differs only where something was named; and what is `promised` to be found was.
 */
export function judged(
  before: Observed,
  now: Observed,
  verified: Observed,
  promised: boolean,
): string | undefined {
  const [unexpected] = [...now.unexpected, ...verified.unexpected];
  if (unexpected !== undefined) return `failed in a way that is none: ${unexpected}`;
  for (const [name, digest] of now.bytes)
    if ((before.bytes.get(name) ?? digest) !== digest) return `other bytes were served as ${name}`;
  const found = now.named.length + verified.named.length > 0;
  if (found) return undefined;
  for (const [name, text] of before.said)
    if (!same(text, now.said.get(name)))
      return `${name} is another and nothing was named: ${now.said.get(name)}`;
  for (const name of before.bytes.keys())
    if (!now.bytes.has(name)) return `${name} is gone and nothing was named`;
  return promised ? 'what rotted was not found' : undefined;
}

function same(one: string, other: string | undefined): boolean {
  return one === other;
}
