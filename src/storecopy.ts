import { createHash } from 'node:crypto';
import { describe, failedWith, NexusError } from './errors.ts';
import type { FailedItem } from './report.ts';
import { agentsOf, namedAgents, rememberingAgents, tables } from './storecontents.ts';
import type { BlobStat, Rotted, Row, Store } from './stores/store.ts';

export interface CopyOptions {
  /** Blobs, or rows, at once. */
  concurrency: number;
  /** Read again also what an earlier run has compared. */
  verify: boolean;
  /** Stops after the items in hand. */
  signal: AbortSignal;
  progress(state: CopyProgress): void;
}

export interface CopyProgress {
  blobs: number;
  blobsTotal: number;
  bytes: number;
  bytesTotal: number;
  rows: number;
}

export interface Copied {
  blobs: { found: number; copied: number; already: number };
  /** `kept`: the other store has another row under that key, which stays. */
  rows: { found: number; copied: number; already: number; kept: number };
  /** Bytes written. */
  bytes: number;
  failed: FailedItem[];
}

const pieceBytes = 4 * 1024 * 1024;
/** Not as rows, or not at all. */
const notCopied = new Set(['Agents', 'Sessions', 'Marks', 'Changes', 'SignIns', 'Jobs']);

const sessionsDirectory = 'sessions/inbox/';

/**
 * Copies every blob and row of one store to another, blobs before the rows that name them. What is there already is
 * compared by length and digest and left; a transcript that is there in part goes on from there; one that differs is
 * left and reported. What was written is read back and compared. Run again, it goes on where it stopped.
 *
 * Not copied: the store's id, and of the tables those that belong to one store (`Marks`, `Changes`, `SignIns`) or that
 * hosts tell anew (`Jobs`). The other keeps its own, so that hosts settle with it before they believe anything.
 */
export async function copyStore(from: Store, to: Store, options: CopyOptions): Promise<Copied> {
  if ((await from.id()) === (await to.id()))
    throw new NexusError('usage', 'Both stores are the same one.', { hint: 'Set another in `store`.' });
  const { signal } = options;
  const copied: Copied = {
    blobs: { found: 0, copied: 0, already: 0 },
    rows: { found: 0, copied: 0, already: 0, kept: 0 },
    bytes: 0,
    failed: [],
  };
  const state: CopyProgress = { blobs: 0, blobsTotal: 0, bytes: 0, bytesTotal: 0, rows: 0 };
  const tell = (): void => options.progress(state);

  /** One item; what goes wrong with it is noted and does not stop the others. */
  async function item(name: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof NexusError)) throw error;
      copied.failed.push({ item: name, reason: describe(error) });
    }
  }

  /** What is damaged is not copied, and stops nothing else. */
  function named(place: string): Rotted {
    return (name, error) => copied.failed.push({ item: `${place}${name}`, reason: describe(error) });
  }

  async function each<T>(items: T[], work: (item: T) => Promise<void>): Promise<void> {
    const queue = items.values();
    const worker = async (): Promise<void> => {
      for (const one of queue) {
        if (signal.aborted) return;
        await work(one);
        tell();
      }
    };
    await Promise.all(Array.from({ length: Math.min(options.concurrency, items.length) }, worker));
  }

  async function copyBlob(
    blob: BlobStat,
    there: number | undefined,
    compared: boolean,
  ): Promise<string | undefined> {
    if (compared && !options.verify) {
      copied.blobs.already++;
      return undefined;
    }
    const { digest, written } = blob.name.startsWith(sessionsDirectory)
      ? await growBlob(from, to, blob, there ?? 0)
      : await makeBlob(from, to, blob);
    copied.bytes += written;
    if (written > 0 || there === undefined) copied.blobs.copied++;
    else copied.blobs.already++;
    return digest;
  }

  async function copyBlobs(blobs: BlobStat[], work: (blob: BlobStat) => Promise<void>): Promise<void> {
    copied.blobs.found += blobs.length;
    state.blobsTotal += blobs.length;
    state.bytesTotal += blobs.reduce((sum, { length }) => sum + length, 0);
    await each(blobs, async (blob) => {
      await item(blob.name, () => work(blob));
      state.blobs++;
      state.bytes += blob.length;
    });
  }

  async function copyRow(table: string, row: Row, there: Row | undefined): Promise<void> {
    const same = (other: Row | undefined): boolean => other !== undefined && textOf(other) === textOf(row);
    if (same(there)) copied.rows.already++;
    else if (there !== undefined) copied.rows.kept++;
    else {
      try {
        await to.insert(table, row);
        copied.rows.copied++;
      } catch (error) {
        if (!failedWith(error, 'conflict')) throw error;
        copied.rows.kept++;
      }
    }
  }

  async function copyRows(table: string, partition: string): Promise<void> {
    const rows = await collect(from.rows(table, partition, {}, named(`${table} ${partition}/`)));
    if (rows.length === 0) return;
    copied.rows.found += rows.length;
    const there = byId(await collect(to.rows(table, partition)));
    await each(rows, async (row) => {
      await item(`${table} ${partition}/${row.id}`, () => copyRow(table, row, there.get(row.id)));
      state.rows++;
    });
  }

  /** Transcripts of one agent, each with its card, which says when it was compared. */
  async function copySessions(agent: string): Promise<void> {
    const directory = `${sessionsDirectory}${agent}/`;
    const blobs = await collect(from.list(directory, named('')));
    const lengths = new Map((await collect(to.list(directory))).map(({ name, length }) => [name, length]));
    const cards = byId(await collect(from.rows('Sessions', agent, {}, named(`Sessions ${agent}/`))));
    const cardsThere = byId(await collect(to.rows('Sessions', agent)));
    copied.rows.found += cards.size;
    await copyBlobs(blobs, async (blob) => {
      const id = blob.name.slice(directory.length).replace(/\.jsonl$/, '');
      const [card, cardThere, there] = [cards.get(id), cardsThere.get(id), lengths.get(blob.name)];
      const compared =
        there === blob.length &&
        cardThere?.['length'] === blob.length &&
        card?.['length'] === blob.length &&
        cardThere['digest'] !== undefined &&
        cardThere['digest'] === card['digest'];
      const digest = await copyBlob(blob, there, compared);
      if (
        card?.['length'] === blob.length &&
        card['digest'] !== undefined &&
        digest !== undefined &&
        digest !== card['digest']
      )
        throw new NexusError('corrupt', 'Its bytes are not the ones that its card names by digest.', {
          hint: 'Look with `nexus backfill --verify`, then copy again.',
        });
      if (card === undefined) return;
      cards.delete(id);
      await copyCard(card, cardThere, digest === undefined ? {} : { length: blob.length, digest });
    });
    if (signal.aborted) return;
    // Transcripts without bytes. The card of one whose bytes failed stays behind with them.
    const withBytes = new Set(blobs.map(({ name }) => name));
    await each([...cards.values()], async (card) => {
      const { id } = card;
      if (!withBytes.has(`${directory}${id}.jsonl`))
        await item(`Sessions ${agent}/${id}`, () => copyCard(card, cardsThere.get(id), {}));
    });
  }

  /** The later card counts; a digest that was just found is added to it. */
  async function copyCard(
    card: Row,
    there: Row | undefined,
    found: { length?: number; digest?: string },
  ): Promise<void> {
    state.rows++;
    const later =
      there !== undefined && String(there['updatedAt']) > String(card['updatedAt']) ? there : card;
    const next = later['length'] === found.length ? { ...later, ...found } : later;
    if (there !== undefined && textOf(there) === textOf(next)) {
      copied.rows.already++;
      return;
    }
    await to.put('Sessions', next);
    if (later === there) copied.rows.kept++;
    else copied.rows.copied++;
  }

  const agents = await agentsOf(from);
  await copyRows('Agents', 'agents');
  const remember = rememberingAgents(to);
  const withRow = new Set(await namedAgents(from));
  for (const agent of agents) {
    if (signal.aborted) return copied;
    await item(`agent ${agent}`, async () => {
      if (!withRow.has(agent)) await remember(agent);
      await copySessions(agent);
    });
  }
  const payloads = await collect(from.list('payloads/', named('')));
  await copyBlobs(payloads, async (blob) => {
    await copyBlob(blob, (await to.stat(blob.name))?.length, false);
  });
  for (const table of tables)
    for (const agent of agents) {
      if (signal.aborted) return copied;
      if (notCopied.has(table)) continue;
      await item(`${table} ${agent}`, () => copyRows(table, agent));
    }
  return copied;
}

/** Appends what is missing of a transcript, whose beginning must be equal, and compares the whole. */
async function growBlob(
  from: Store,
  to: Store,
  { name, length }: BlobStat,
  there: number,
): Promise<{ digest: string; written: number }> {
  if (there > length) {
    const [here, beginning] = [await hashOf(from, name, length), await hashOf(to, name, length)];
    if (here !== beginning) throw different(name);
    return { digest: here, written: 0 };
  }
  const hash = createHash('sha256');
  let read = 0;
  let offset = there;
  if (there > 0) {
    for await (const piece of from.open(name, 0, there)) {
      hash.update(piece);
      read += piece.length;
    }
    if (hash.copy().digest('hex') !== (await hashOf(to, name, there))) throw different(name);
  }
  let waiting: Uint8Array[] = [];
  let waitingLength = 0;
  const flush = async (): Promise<void> => {
    if (waitingLength > 0) offset = await to.append(name, offset, Buffer.concat(waiting));
    waiting = [];
    waitingLength = 0;
  };
  if (read < length)
    for await (const piece of from.open(name, read, length)) {
      hash.update(piece);
      waiting.push(piece);
      waitingLength += piece.length;
      if (waitingLength >= pieceBytes) await flush();
    }
  await flush();
  const digest = hash.digest('hex');
  if (offset > there && (await hashOf(to, name, length)) !== digest) throw spoiled(name);
  return { digest, written: offset - there };
}

/** Makes a blob whole, or compares the one that is there. */
async function makeBlob(
  from: Store,
  to: Store,
  { name }: BlobStat,
): Promise<{ digest: string; written: number }> {
  const body = Buffer.concat(await collect(from.open(name)));
  const digest = createHash('sha256').update(body).digest('hex');
  let written = body.length;
  try {
    await to.create(name, body);
  } catch (error) {
    if (!failedWith(error, 'conflict')) throw error;
    written = 0;
  }
  if ((await hashOf(to, name)) !== digest) throw written === 0 ? different(name) : spoiled(name);
  return { digest, written };
}

async function hashOf(store: Store, name: string, length?: number): Promise<string> {
  const hash = createHash('sha256');
  if (length !== 0) for await (const piece of store.open(name, 0, length)) hash.update(piece);
  return hash.digest('hex');
}

function different(name: string): NexusError {
  return new NexusError('conflict', `The other store has other bytes as ${name}.`, {
    hint: 'Neither was changed; compare them, and remove the one that is wrong.',
  });
}

function spoiled(name: string): NexusError {
  return new NexusError(
    'corrupt',
    `The bytes of ${name} that were read back are not the ones that were written.`,
  );
}

function byId(rows: Row[]): Map<string, Row> {
  return new Map(rows.map((row) => [row.id, row]));
}

/** Equal for equal rows, whatever the order of their fields. */
function textOf(row: Row): string {
  return JSON.stringify(Object.entries(row).sort(([one], [other]) => (one < other ? -1 : 1)));
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const one of items) all.push(one);
  return all;
}
