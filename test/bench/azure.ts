import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { openAzureStore } from '../../src/stores/azure.ts';
import { publishedAccount, startAzurite } from '../stores/azurite.ts';
import { faults, startFaultyProxy } from '../stores/faultyproxy.ts';
import type { Figure, Place } from './figure.ts';
import { measure } from './measure.ts';
import { makeState } from './state.ts';

const concurrency = 16;

/** Backfill straight to Azurite, beside a bare loop of the SDKs that makes the same calls; then with faults. */
export async function azureFigures(
  place: (name: string) => Place,
  counts: { plain: number; faulty: number },
  leave: (reason: string) => void,
): Promise<Figure[]> {
  return [
    ...(await besidePeers(place('azure'), counts.plain, leave)),
    await withFaults(place('azure-faults'), counts.faulty),
  ];
}

async function besidePeers(
  { stateDir, nexus }: Place,
  count: number,
  leave: (reason: string) => void,
): Promise<Figure[]> {
  const azurite = await startAzurite();
  try {
    const { connectionString } = azurite;
    const sessions = await makeState(stateDir, count, 4_000);
    const loop = (prefix: string) =>
      measure(process.execPath, [
        path.join(import.meta.dirname, 'sdkloop.ts'),
        connectionString,
        sessions,
        prefix,
        String(concurrency),
      ]);
    // Azurite slows down as it fills: the loop runs before and after, and the mean of both counts.
    const before = await loop('before');
    const store = { kind: 'azure', connectionString, prefix: 'nexus' };
    const ours = await nexus(['backfill', '--json'], { afterUpload: 'keep', concurrency, store });
    const after = await loop('after');
    for (const run of [before, after])
      if (run.status !== 0) throw new Error(`the loop failed: ${run.stdout}`);
    const bare = (before.ms + after.ms) / 2;
    const what = `backfill of ${count.toLocaleString('en-US')} transcripts to Azurite`;
    const value = `${(ours.ms / 1000).toFixed(1)} s (${Math.round(count / (ours.ms / 1000))}/s)`;
    const besideTheSdk = {
      what,
      value,
      against: `the SDKs alone, same calls: ${(bare / 1000).toFixed(1)} s`,
      ratio: bare / ours.ms,
      goal: '>= 0.8',
      met: bare / ours.ms >= 0.8,
    };
    const copied = await copyByRclone(sessions, azurite.blobs, leave);
    if (copied === undefined) return [besideTheSdk];
    const against = `rclone copy, blobs alone: ${(copied / 1000).toFixed(1)} s`;
    return [besideTheSdk, { what, value, against, ratio: copied / ours.ms }];
  } finally {
    await azurite.stop();
  }
}

/** Milliseconds; `undefined` without an rclone that speaks to Azurite, which Debian's 1.60 does not. */
async function copyByRclone(
  sessions: string,
  blobs: string,
  leave: (reason: string) => void,
): Promise<number | undefined> {
  const { stdout } = spawnSync('rclone', ['version'], { encoding: 'utf8' });
  const [, major = '0', minor = '0'] = /v(\d+)\.(\d+)/.exec(stdout ?? '') ?? [];
  if (Number(major) < 1 || (Number(major) === 1 && Number(minor) < 61)) {
    leave(
      `rclone beside Azurite: it takes 1.61 or later, and here is ${/v[\d.]+/.exec(stdout ?? '')?.[0] ?? 'none'}`,
    );
    return undefined;
  }
  const { account, key } = publishedAccount;
  const env = {
    ...process.env,
    RCLONE_CONFIG_AZURITE_TYPE: 'azureblob',
    RCLONE_CONFIG_AZURITE_ACCOUNT: account,
    RCLONE_CONFIG_AZURITE_KEY: key,
    RCLONE_CONFIG_AZURITE_ENDPOINT: `${blobs}/${account}`,
  };
  const flags = ['--config', '/dev/null', '--transfers', String(concurrency)];
  const run = await measure('rclone', ['copy', ...flags, sessions, 'azurite:rclone'], env);
  if (run.status === 0) return run.ms;
  leave(`rclone beside Azurite: it ended with status ${run.status}`);
  return undefined;
}

/** One request in twenty fails in one of the ways of a bad line; afterwards every byte is compared. */
async function withFaults({ stateDir, nexus }: Place, count: number): Promise<Figure> {
  const azurite = await startAzurite();
  const proxy = await startFaultyProxy(azurite);
  try {
    const sessions = await makeState(stateDir, count, 300);
    const kinds = faults.map(([, fault]) => fault).filter(({ kind }) => kind !== 'stall');
    const random = seededRandom(20_261_123);
    let injected = 0;
    proxy.faults(() => {
      if (random() >= 0.05) return undefined;
      injected++;
      return kinds[Math.floor(random() * kinds.length)];
    });
    const store = { kind: 'azure', connectionString: proxy.connectionString, prefix: 'faulty' };
    const run = await nexus(['backfill', '--json'], { afterUpload: 'keep', concurrency, store });
    proxy.faults(() => undefined);
    const equal = await countEqual(azurite.connectionString, 'faulty', sessions);
    return {
      what: `the same of ${count.toLocaleString('en-US')}, 5 % of requests failing`,
      value: `${equal.equal} equal, ${equal.others} besides, in ${(run.ms / 1000).toFixed(0)} s`,
      against: `${count} equal, 0 besides (${injected} faults)`,
      ratio: equal.equal / count,
      goal: 'all, once',
      met: equal.equal === count && equal.others === 0,
    };
  } finally {
    await proxy.stop();
    await azurite.stop();
  }
}

/** How many files are stored byte for byte, and how many blobs there are besides. */
async function countEqual(
  connectionString: string,
  prefix: string,
  directory: string,
): Promise<{ equal: number; others: number }> {
  const store = await openAzureStore({ connectionString, prefix });
  const here = new Set((await readdir(directory)).filter((name) => name.endsWith('.jsonl')));
  const found: string[] = [];
  for await (const { name } of store.list('sessions/inbox/')) found.push(name);
  const rows = new Map<string, string | undefined>();
  for await (const row of store.rows('Sessions', 'main'))
    rows.set(`${row.id}.jsonl`, typeof row['digest'] === 'string' ? row['digest'] : undefined);
  let equal = 0;
  const names = found.values();
  const worker = async (): Promise<void> => {
    for (const name of names) {
      const file = name.slice('sessions/inbox/main/'.length);
      if (!here.has(file)) continue;
      const stored: Uint8Array[] = [];
      for await (const piece of store.open(name)) stored.push(piece);
      const bytes = await readFile(path.join(directory, file));
      const digest = createHash('sha256').update(bytes).digest('hex');
      const card = rows.has(file) && [undefined, digest].includes(rows.get(file));
      if (card && Buffer.concat(stored).equals(bytes)) equal++;
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  await store.close();
  return { equal, others: found.length - equal };
}

/** The same numbers in each run (mulberry32). */
function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
