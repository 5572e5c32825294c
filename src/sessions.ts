import { createHash, type Hash } from 'node:crypto';
import { checkAgentId } from './agents.ts';
import { announcing } from './changes.ts';
import { failedWith, NexusError } from './errors.ts';
import type { About, Card, ListOptions, Nexus, StatOptions } from './nexus.ts';
import { maxChunkBytes } from './nexus.ts';
import { keepPrices } from './pricesseen.ts';
import { damageIn } from './damage.ts';
import { knownAgentsOf, rememberingAgents } from './storecontents.ts';
import { keyOf, type Row, rowOf, type Store } from './stores/store.ts';
import { checkTranscript } from './transcripts.ts';

const aboutFields = [
  'host',
  'era',
  'sessionKey',
  'trigger',
  'firstEventAt',
  'lastEventAt',
  'sessionId',
] as const satisfies (keyof About)[];

/** How many transcripts' running digests are kept, so that one shipped in chunks is not read again for its digest. */
const runningDigests = 64;

/**
 * The archive over a store, in this process. Order of durable steps for an append: the agent's name (harmless
 * without transcripts, and what a listing begins from), then the blob and its announcement in the feed of changes,
 * then the card; a crash between the last two leaves a card that is missing or behind, which is set right from the
 * blob whenever it is answered. The blob is the truth for the length, the card for the rest.
 */
export function openSessions(store: Store, now: () => Date = () => new Date()): Nexus {
  const rememberAgent = rememberingAgents(store);
  const announce = announcing(store, now);
  const knownAgents = knownAgentsOf(store);
  const running = new Map<string, { length: number; hash: Hash }>();

  async function appendBytes(name: string, offset: number, bytes: Uint8Array): Promise<number> {
    const length = await store.append(name, offset, bytes);
    const before = running.get(name);
    running.delete(name);
    const hash = offset === 0 ? createHash('sha256') : before?.length === offset ? before.hash : undefined;
    if (hash !== undefined && bytes.length > 0) {
      running.set(name, { length, hash: hash.update(bytes) });
      const oldest = running.size > runningDigests ? running.keys().next().value : undefined;
      if (oldest !== undefined) running.delete(oldest);
    }
    return length;
  }

  function digestOf(name: string, length: number): string | undefined {
    if (length === 0) return createHash('sha256').digest('hex');
    const known = running.get(name);
    return known?.length === length ? known.hash.copy().digest('hex') : undefined;
  }

  /**
   * The card as it is now. Where card and blob disagree (a crash between the two, or an append that is under way) the
   * blob says how long it is. Only answered so, never written: what a reader wrote could undo the card of an append
   * that was acknowledged meanwhile.
   */
  async function settledCard(
    agent: string,
    transcript: string,
    row: Row | undefined,
    length: number | undefined,
  ): Promise<Card | undefined> {
    if (row === undefined && length === undefined) return undefined;
    if (row !== undefined && cardOf(row).length === (length ?? 0)) return cardOf(row);
    // What was read in a listing may be older than an append since: look again, the card before its blob.
    const latest = await rowOf(store, 'Sessions', agent, transcript);
    const stored = (await store.stat(blobName(agent, transcript)))?.length ?? 0;
    const card = latest === undefined ? newCard(agent, transcript, now().toISOString()) : cardOf(latest);
    if (latest !== undefined && card.length === stored) return card;
    const time = now().toISOString();
    return {
      ...withoutDigest(card),
      length: stored,
      // Whether what is there beyond the card completes it is not known.
      complete: false,
      updatedAt: time,
    };
  }

  /** An agent's cards after `past`, those that a crash left without a row in their place among the others. */
  async function* cardsOf(agent: string, past: string, damaged: ListOptions['damaged']): AsyncIterable<Card> {
    const directory = `sessions/inbox/${agent}/`;
    const lengths = new Map<string, number>();
    const rotten = new Set<string>();
    const transcriptOf = (name: string) => name.slice(directory.length, -'.jsonl'.length);
    const told = (transcript: string, { message }: NexusError): void => {
      if (transcript > past && !rotten.has(transcript))
        damaged?.({ agent, transcript, item: `${agent}/${transcript}`, reason: message });
      rotten.add(transcript);
      lengths.delete(transcript);
    };
    const rotted = damaged === undefined ? undefined : told;
    const rottedName = rotted && ((name: string, error: NexusError) => rotted(transcriptOf(name), error));
    for await (const { name, length } of store.list(directory, rottedName)) {
      const transcript = transcriptOf(name);
      if (name.endsWith('.jsonl') && transcript > past) lengths.set(transcript, length);
    }
    // By their own characters: the names were in the order of `….jsonl`, which puts `X-1` before `X`.
    const blobs = [...lengths.keys()].sort(byCharacters);
    let next = 0;
    async function settled(transcript: string, row?: Row): Promise<Card | undefined> {
      try {
        return await settledCard(agent, transcript, row, lengths.get(transcript));
      } catch (error) {
        if (rotted === undefined || !failedWith(error, 'corrupt')) throw error;
        rotted(transcript, error);
        return undefined;
      }
    }
    async function* withoutRow(before: string | undefined): AsyncIterable<Card> {
      for (; next < blobs.length; next++) {
        const transcript = blobs[next];
        if (transcript === undefined || (before !== undefined && transcript >= before)) return;
        if (rotten.has(transcript)) continue;
        const card = await settled(transcript);
        if (card !== undefined) yield card;
      }
    }
    for await (const row of store.rows('Sessions', agent, { from: `${past}\u0000` }, rotted)) {
      yield* withoutRow(row.id);
      if (blobs[next] === row.id) next++;
      if (rotten.has(row.id)) continue;
      const card = await settled(row.id, row);
      if (card !== undefined) yield card;
    }
    yield* withoutRow(undefined);
  }

  /** Of a card that rotted nothing is known: who appends tells of it anew. */
  async function soundRow(agent: string, transcript: string): Promise<Row | undefined> {
    try {
      return await rowOf(store, 'Sessions', agent, transcript);
    } catch (error) {
      if (!failedWith(error, 'corrupt')) throw error;
      return undefined;
    }
  }

  async function hashStored(name: string, length: number): Promise<string> {
    const hash = createHash('sha256');
    if (length > 0) for await (const piece of store.open(name, 0, length)) hash.update(piece);
    return hash.digest('hex');
  }

  async function stat(
    agent: string,
    transcript: string,
    options: StatOptions = {},
  ): Promise<Card | undefined> {
    const name = blobName(agent, transcript);
    const blob = await store.stat(name);
    const card = await settledCard(
      agent,
      transcript,
      await rowOf(store, 'Sessions', agent, transcript),
      blob?.length,
    );
    if (card === undefined || options.digest === undefined || options.digest === 'known') return card;
    if (options.digest === 'stored' && card.digest !== undefined) return card;
    const digest = await hashStored(name, card.length);
    if (card.digest !== undefined && card.digest !== digest)
      throw new NexusError(
        'corrupt',
        `The stored bytes of ${agent}/${transcript} are not the ones that were stored: their SHA-256 has changed.`,
        { hint: 'Restore that file from a backup of the archive.' },
      );
    return { ...card, digest };
  }

  return {
    storeId: () => store.id(),
    stat,

    async append(agent, transcript, offset, bytes, { complete, about }) {
      const name = blobName(agent, transcript);
      if (bytes.length > maxChunkBytes)
        throw new NexusError('too_large', `A chunk of ${bytes.length} bytes exceeds the 10 MB limit.`);
      await rememberAgent(agent);
      // Begun first: on the embedded store it is committed no later than the bytes, and shares their sync.
      const announced = announce(agent, transcript);
      const [length] = await both(appendBytes(name, offset, bytes), announced);
      const row = await soundRow(agent, transcript);
      const time = now().toISOString();
      const card = row === undefined ? newCard(agent, transcript, time) : cardOf(row);
      const digest = digestOf(name, length) ?? (card.length === length ? card.digest : undefined);
      // Another append went on after this one and has told more.
      if (card.length > length) return length;
      const next: Card = { ...withoutDigest(card), ...stated(about), length, complete, updatedAt: time };
      await store.put('Sessions', rowOfCard(digest === undefined ? next : { ...next, digest }));
      return length;
    },

    async *read(agent, transcript, from = 0, to?: number) {
      const name = blobName(agent, transcript);
      try {
        yield* store.open(name, from, to);
      } catch (error) {
        if (!failedWith(error, 'not_found')) throw error;
        const card = await stat(agent, transcript);
        if (card === undefined)
          throw new NexusError('not_found', `Nothing is stored as ${agent}/${transcript}.`, { cause: error });
        if (from > card.length)
          throw new NexusError('range', `${agent}/${transcript} is ${card.length} bytes long.`, {
            length: card.length,
          });
      }
    },

    async *list({ agent, since, after, damaged }: ListOptions = {}) {
      if (agent !== undefined) checkAgentId(agent);
      for (const one of agent === undefined ? await knownAgents() : [agent]) {
        if (after !== undefined && one < after.agent) continue;
        const past = after?.agent === one ? after.transcript : '';
        for await (const card of cardsOf(one, past, damaged))
          if (since === undefined || card.updatedAt >= since) yield card;
      }
    },

    damage: (signal) => damageIn(store, signal),

    async mark(agent, host) {
      try {
        const row = await rowOf(store, 'Marks', checkAgentId(agent), keyOf(host));
        return row === undefined ? undefined : String(row['mark']);
      } catch (error) {
        // One that no host has left: it settles everything and leaves another.
        if (failedWith(error, 'corrupt')) return '';
        throw error;
      }
    },

    async setMark(agent, host, mark) {
      await store.put('Marks', { partition: checkAgentId(agent), id: keyOf(host), host, mark });
    },

    setPrices: (agent, host, prices) => keepPrices(store, agent, host, prices, now()),

    close: () => store.close(),
  };
}

/** Both, or the error of the first, when both are at an end. */
async function both<One, Other>(one: Promise<One>, other: Promise<Other>): Promise<[One, Other]> {
  await Promise.allSettled([one, other]);
  return [await one, await other];
}

function byCharacters(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}

function blobName(agent: string, transcript: string): string {
  return `sessions/${pathOf(agent, transcript)}`;
}

/** Where a transcript lies in the container `sessions`. */
function pathOf(agent: string, transcript: string): string {
  return `inbox/${checkAgentId(agent)}/${checkTranscript(transcript)}.jsonl`;
}

function newCard(agent: string, transcript: string, time: string): Card {
  const path = pathOf(agent, transcript);
  return { agent, transcript, path, length: 0, complete: false, storedAt: time, updatedAt: time };
}

/** The facts that are stated, so that one left out does not erase what is known. */
function stated(about: About): About {
  return Object.fromEntries(
    aboutFields.flatMap((field) => (about[field] === undefined ? [] : [[field, about[field]]])),
  );
}

function withoutDigest(card: Card): Card {
  const other = { ...card };
  delete other.digest;
  return other;
}

function rowOfCard(card: Card): Row {
  const { agent, transcript, path: _, ...rest } = card;
  return { ...rest, partition: agent, id: transcript };
}

function cardOf(row: Row): Card {
  const about: Record<string, string> = {};
  for (const field of aboutFields) {
    const value = row[field];
    if (typeof value === 'string') about[field] = value;
  }
  const card: Card = {
    ...about,
    agent: row.partition,
    transcript: row.id,
    path: pathOf(row.partition, row.id),
    length: Number(row['length'] ?? 0),
    complete: row['complete'] === true,
    storedAt: String(row['storedAt']),
    updatedAt: String(row['updatedAt']),
  };
  return typeof row['digest'] === 'string' ? { ...card, digest: row['digest'] } : card;
}
