import { mkdir, open, readFile, rename } from 'node:fs/promises';
import path from 'node:path';
import * as z from 'zod';
import type { Config } from '../config.ts';
import { NexusError } from '../errors.ts';

const lookSchema = z.object({
  /** Up to when all is found: everything that had finished by then is stored. ISO 8601, UTC. */
  lookedAt: z.iso.datetime().exactOptional(),
  /** The same of put.io's history, where that could not be read up to then. */
  historyAt: z.iso.datetime().exactOptional(),
  /** A look has seen that the account calls this agent. */
  called: z.literal(true).exactOptional(),
  /** What no look can put into the mailbox, and why: told once, and not held up for. */
  setAside: z.array(z.object({ item: z.string(), reason: z.string() })).exactOptional(),
  /** What finished before is not looked for: put.io was registered then. */
  beganAt: z.iso.datetime().exactOptional(),
  /** When a look was last begun, and what it found or why it failed. */
  triedAt: z.iso.datetime().exactOptional(),
  found: z.number().exactOptional(),
  error: z.string().exactOptional(),
});
const looksSchema = z.record(z.string(), lookSchema);
/** How far this host has looked through an account's transfers for an agent. */
export type Look = z.output<typeof lookSchema>;

function looksFile({ dataDir }: Config): string {
  return path.join(dataDir, 'host', 'putio.json');
}

/** `{}` when none was. `corrupt` when that cannot be read: where to go on is known nowhere else. */
export async function lastLook(config: Config, agent: string): Promise<Look> {
  const looks = await readLooks(looksFile(config));
  return Object.hasOwn(looks, agent) ? (looks[agent] ?? {}) : {};
}

/** Durable when it resolves. Only for who holds the lock of put.io's looks. */
export async function keepLook(config: Config, agent: string, look: Look): Promise<void> {
  const file = looksFile(config);
  const directory = path.dirname(file);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const looks = await readLooks(file);
  const temporary = `${file}.new`;
  const handle = await open(temporary, 'w', 0o600);
  try {
    await handle.writeFile(
      `${JSON.stringify(Object.fromEntries([...Object.entries(looks), [agent, look]]))}\n`,
    );
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, file);
  const folder = await open(directory, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function readLooks(file: string): Promise<z.output<typeof looksSchema>> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return {};
    throw damaged(file, error);
  }
  try {
    return looksSchema.parse(JSON.parse(text));
  } catch (error) {
    throw damaged(file, error);
  }
}

function damaged(file: string, cause: unknown): NexusError {
  return new NexusError(
    'corrupt',
    `${file} cannot be read: up to when put.io was looked through is not known.`,
    {
      hint: 'Remove it, and run `nexus putio reconcile --since DATE` from when it last worked.',
      cause,
    },
  );
}
