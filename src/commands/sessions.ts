import { createHash, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { copyFile, type FileHandle, link, open, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Context } from '../context.ts';
import { exit, NexusError } from '../errors.ts';
import { formatAge, formatBytes, formatItems } from '../format.ts';
import { syncDirectory } from '../lastingnames.ts';
import type { Card, Damaged, Nexus } from '../nexus.ts';
import { openNexus } from '../open.ts';

/** 3 when some of it is damaged, which is named and left out. */
export async function list(context: Context, { agent }: { agent: string | undefined }): Promise<number> {
  const { output, now } = context;
  const damaged = new Map<string, Damaged>();
  const note = (one: Damaged): void => void damaged.set(one.item, { item: one.item, reason: one.reason });
  const cards = await withNexus(context, async (nexus) => {
    const found: Card[] = [];
    for await (const card of nexus.list({ damaged: note, ...(agent === undefined ? {} : { agent }) })) {
      context.signal.throwIfAborted();
      found.push(card);
    }
    return found;
  });
  const ok = damaged.size === 0;
  const status = ok ? exit.done : exit.someFailed;
  for (const { item, reason } of damaged.values()) output.error(`${item}: ${reason}`, { item });
  if (output.json) {
    output.result({
      command: 'sessions list',
      ok,
      sessions: cards,
      ...(ok ? {} : { damaged: [...damaged.values()] }),
      schemaVersion: 1,
    });
    return status;
  }
  if (cards.length > 0)
    output.table(
      [
        { title: 'AGENT' },
        { title: 'TRANSCRIPT' },
        { title: 'SIZE', align: 'right' },
        { title: 'STATE' },
        { title: 'STARTED BY' },
        { title: 'HOST' },
        { title: 'CHANGED' },
      ],
      cards.map((card) => [
        card.agent,
        card.transcript,
        formatBytes(card.length),
        card.complete ? 'complete' : 'active',
        card.trigger ?? '',
        card.host ?? '',
        formatAge(Date.parse(card.updatedAt), now()),
      ]),
    );
  const bytes = cards.reduce((sum, card) => sum + card.length, 0);
  output.info(`${formatItems(cards.length, 'transcript')}, ${formatBytes(bytes)}.`);
  return status;
}

export interface Named {
  /** `agent/transcript`, or the transcript alone with `agent`. */
  name: string;
  agent: string | undefined;
}

export async function show(context: Context, named: Named): Promise<void> {
  const { output } = context;
  const { agent, transcript } = parseName(named);
  const card = await withNexus(context, (nexus) => nexus.stat(agent, transcript, { digest: 'stored' }));
  if (card === undefined) throw absent(agent, transcript);
  if (output.json) output.result({ command: 'sessions show', ok: true, session: card, schemaVersion: 1 });
  else
    output.table(
      [{ title: 'FIELD' }, { title: 'VALUE', align: 'left' }],
      Object.entries(card).map(([field, value]) => [field, String(value)]),
    );
}

export interface GetOptions extends Named {
  /** A file to make; absent: stdout. */
  file: string | undefined;
}

/**
 * The bytes as they are stored, up to the length that the card says. A file appears under its name only whole,
 * checked and synced, never over another, and only its owner can read it.
 */
export async function get(context: Context, { file, ...named }: GetOptions): Promise<void> {
  const { output } = context;
  if (output.json && file === undefined)
    throw new NexusError('usage', 'The bytes and a JSON object cannot both go to stdout.', {
      hint: 'Name a file with --output, or leave --json out.',
    });
  const { agent, transcript } = parseName(named);
  await withNexus(context, async (nexus) => {
    const card = await nexus.stat(agent, transcript);
    if (card === undefined) throw absent(agent, transcript);
    if (file === undefined) {
      await copy(context, nexus, card, (piece) => output.write(piece));
      return;
    }
    const path = resolve(file);
    const digest = await makeFile(path, (handle) =>
      copy(context, nexus, card, async (piece) => {
        await handle.writeFile(piece);
        return true;
      }),
    );
    if (output.json) {
      const { length: bytes } = card;
      output.result({
        command: 'sessions get',
        ok: true,
        agent,
        transcript,
        path,
        bytes,
        digest,
        schemaVersion: 1,
      });
    } else output.info(`${formatBytes(card.length)} written to ${path}.`);
  });
}

/** Hands on every piece until `take` answers false, and answers the digest of what it handed on. */
async function copy(
  { signal }: Context,
  nexus: Nexus,
  card: Card,
  take: (piece: Uint8Array) => Promise<boolean>,
): Promise<string> {
  const hash = createHash('sha256');
  let length = 0;
  if (card.length > 0)
    for await (const piece of nexus.read(card.agent, card.transcript, 0, card.length)) {
      signal.throwIfAborted();
      hash.update(piece);
      length += piece.length;
      // A reader who has gone wants no more, and no complaint.
      if (!(await take(piece))) return hash.digest('hex');
    }
  const digest = hash.digest('hex');
  if (length !== card.length || (card.digest !== undefined && card.digest !== digest))
    throw new NexusError(
      'corrupt',
      `The stored bytes of ${card.agent}/${card.transcript} are not the ones that were stored.`,
      { hint: 'Run `nexus backfill --verify`.' },
    );
  return digest;
}

async function makeFile<T>(path: string, fill: (handle: FileHandle) => Promise<T>): Promise<T> {
  const directory = dirname(path);
  const temporary = join(directory, `.nexus-${randomBytes(8).toString('hex')}.tmp`);
  try {
    const handle = await open(temporary, 'wx', 0o600);
    try {
      const result = await fill(handle);
      await handle.sync();
      await giveName(temporary, path);
      await syncDirectory(directory);
      return result;
    } finally {
      await handle.close();
      await rm(temporary, { force: true });
    }
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || error instanceof NexusError) throw error;
    if (error.code === 'EEXIST')
      throw new NexusError('conflict', `${path} exists, and is left as it is.`, {
        hint: 'Name another file.',
      });
    throw new NexusError('unavailable', `${path} cannot be written (${String(error.code)}).`, {
      cause: error,
    });
  }
}

/** Never over another file, which a rename would replace. */
async function giveName(temporary: string, path: string): Promise<void> {
  try {
    await link(temporary, path);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'EOPNOTSUPP' && code !== 'ENOSYS') throw error;
    // A file system without hard links.
    await copyFile(temporary, path, constants.COPYFILE_EXCL);
    const copied = await open(path, 'r+');
    try {
      await copied.sync();
    } finally {
      await copied.close();
    }
  }
}

async function withNexus<T>(
  { config, signal, version }: Context,
  work: (nexus: Nexus) => Promise<T>,
): Promise<T> {
  const nexus = await openNexus(config, signal, version);
  try {
    return await work(nexus);
  } finally {
    await nexus.close();
  }
}

function parseName({ name, agent }: Named): { agent: string; transcript: string } {
  if (agent !== undefined) return { agent, transcript: name };
  const slash = name.indexOf('/');
  if (slash > 0 && slash < name.length - 1)
    return { agent: name.slice(0, slash), transcript: name.slice(slash + 1) };
  throw new NexusError('usage', `${JSON.stringify(name)} does not say whose transcript it is.`, {
    hint: 'Write agent/transcript, or name the agent with --agent.',
  });
}

function absent(agent: string, transcript: string): NexusError {
  return new NexusError('not_found', `Nothing is stored as ${agent}/${transcript}.`, {
    hint: 'See `nexus sessions list`.',
  });
}
