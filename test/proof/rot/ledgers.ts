import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { NexusError } from '../../../src/errors.ts';
import { runJob } from '../../../src/jobs/job.ts';
import { openSessions } from '../../../src/sessions.ts';
import { openLocalStore } from '../../../src/stores/local.ts';
import { openUsage } from '../../../src/usage.ts';
import { indexPath } from '../../../src/usagefile.ts';
import { fileKind, type Kind, pageKinds, textKind } from './kinds.ts';
import { type Made, pullHere } from './made.ts';

/** A file of the host's, and what must hold whatever bit of it rots. */
export interface LedgerKind extends Kind {
  /** What does not hold, `undefined` where all does. */
  check: () => Promise<string | undefined>;
}

/** What most of an answer is made from. */
const summedUp = /^page of (rollup|sessions|models) /;

export async function ledgerKinds(made: Made): Promise<LedgerKind[]> {
  const host = path.join(made.world.dataDir, 'host');
  const usage = indexPath(made.world.dataDir);
  const sums = await sumsOf(made);
  const sameSums = async (): Promise<string | undefined> => {
    const now = await sumsOf(made);
    return now === sums || now === 'not complete' ? undefined : `other sums: ${now}`;
  };
  const kind = (name: string, file: string, check: LedgerKind['check']): LedgerKind => ({
    ...fileKind(name, [file], false),
    check: () => promised(check),
  });
  const row = (name: string, file: string, texts: string[], check: LedgerKind['check']): LedgerKind => ({
    ...textKind({ name, promised: false }, file, texts, 'either'),
    check: () => promised(check),
  });
  const deliveries = path.join(host, 'deliveries.sqlite');
  const ledger = path.join(host, 'ledger.sqlite');
  return [
    row(
      'row of the ledger of deliveries',
      deliveries,
      textsIn(deliveries, 'SELECT id AS text FROM deliveries WHERE acknowledged_at IS NULL'),
      () => notTwice(made),
    ),
    row(
      'row of the ledger of what was shipped',
      ledger,
      textsIn(ledger, 'SELECT place || signature || transcript AS text FROM shipped'),
      () => allShipped(made),
    ),
    kind('ledger of deliveries', deliveries, () => notTwice(made)),
    kind('ledger of what was shipped', ledger, () => allShipped(made)),
    kind('index of usage', usage, sameSums),
    ...pageKinds(usage, (tree) => `page of ${tree} in the index of usage`)
      .filter(({ name }) => summedUp.test(name))
      .map((one) => ({ ...one, check: () => promised(sameSums) })),
  ];
}

function textsIn(file: string, query: string): string[] {
  const db = new DatabaseSync(file, { readOnly: true });
  const texts = db
    .prepare(query)
    .all()
    .map((row) => String(row['text']));
  db.close();
  return texts;
}

/** What fails as it is promised to is no wrong answer. */
async function promised(check: () => Promise<string | undefined>): Promise<string | undefined> {
  try {
    return await check();
  } catch (error) {
    if (error instanceof NexusError) return undefined;
    return `failed in a way that is none: ${error instanceof Error ? (error.stack ?? '') : String(error)}`;
  }
}

/** What was delivered is not delivered again. */
async function notTwice(made: Made): Promise<string | undefined> {
  let failed: unknown;
  try {
    await pullHere(made);
  } catch (error) {
    failed = error;
  }
  const again = (await readdir(made.inbox)).filter((name) => made.deliveredBefore.includes(name));
  if (again.length > 0) return `delivered a second time: ${again.join(', ')}`;
  if (failed !== undefined) throw failed;
  return undefined;
}

/** After an upload that was well, everything of the host is stored. */
async function allShipped(made: Made): Promise<string | undefined> {
  const open = () => openLocalStore(made.storeDir);
  const { report } = await runJob(
    { job: 'upload', agents: [], dryRun: false, everything: false, all: false, verify: false },
    {
      config: made.config,
      env: made.env,
      openNexus: async () => openSessions(await open()),
      signal: new AbortController().signal,
      now: () => new Date(),
      warn: () => undefined,
      progress: () => undefined,
    },
  );
  if (!report.ok) return undefined;
  const stored = path.join(made.storeDir, 'blobs', 'sessions', 'inbox', 'main');
  const names = await readdir(stored);
  for (const id of made.transcripts) {
    const here = await readFile(path.join(made.sessions, `${id}.jsonl`));
    const copies = names
      .filter((name) => name.startsWith(id))
      .map((name) => readFile(path.join(stored, name)));
    if (!(await Promise.all(copies)).some((bytes) => bytes.equals(here)))
      return `the upload was well and ${id} is not stored`;
  }
  return undefined;
}

/** Sums by model and day, and by session. */
async function sumsOf(made: Made): Promise<string> {
  const store = await openLocalStore(made.storeDir);
  try {
    const usage = await openUsage({ store, file: indexPath(made.world.dataDir), timeZone: 'UTC' });
    try {
      await usage.catchUp();
      const { complete, rows, totals } = await usage.query({ by: ['agent', 'model', 'day'] });
      const { sessions } = await usage.sessions({});
      return complete ? JSON.stringify([rows, totals, sessions]) : 'not complete';
    } finally {
      await usage.close();
    }
  } finally {
    await store.close();
  }
}
