import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { openLocalStore } from '../../src/stores/local.ts';
import { openWebhooks } from '../../src/webhooks.ts';
import { startAzurite } from '../stores/azurite.ts';
import { type Figure, middleOf, type Place, repeated, spreadOf } from './figure.ts';
import { type Load, sendAll, signedRequests } from './webhookload.ts';

const connections = 64;
const secret = 'a secret of the bench';

/** What webhooks cost to keep, at the door and on the way to the agent. */
export async function webhookFigures(
  place: (name: string) => Place,
  counts: { requests: number; azure: number; pending: number },
): Promise<Figure[]> {
  return [
    ...(await received(place('webhooks'), counts.requests)),
    await receivedOnAzure(counts.azure),
    await drained(place, counts.pending),
  ];
}

/** Kept and not kept take turns, so that what else the machine does meets both. */
async function received({ stateDir }: Place, count: number): Promise<Figure[]> {
  const rounds = 3;
  const runs: Record<'nothing' | 'stored', Load[]> = { nothing: [], stored: [] };
  for (let round = 0; round <= rounds; round++)
    for (const mode of ['nothing', 'stored'] as const) {
      const load = await underLoad([mode, path.join(stateDir, `${mode}-${round}`)], count);
      // The first round warms the machine up.
      if (round > 0) runs[mode].push(load);
    }
  const [bare, kept] = [middleLoad(runs.nothing), middleLoad(runs.stored)];
  const ratios = (of: (load: Load) => number): number[] =>
    runs.stored.map((load, round) => of(load) / of(runs.nothing[round] ?? load));
  const what = `webhooks, signed, 1 KiB, ${connections} connections`;
  return [
    {
      what,
      value: `${Math.round(kept.rate)} durable 202s/s`,
      against: `the same that stores nothing: ${Math.round(bare.rate)}/s`,
      ratio: kept.rate / bare.rate,
      ...spreadOf(ratios(({ rate }) => rate)),
      goal: '>= 0.8',
      met: kept.rate / bare.rate >= 0.8,
    },
    {
      what: `${what}, 99 of 100 answers`,
      value: `within ${kept.p99.toFixed(1)} ms`,
      against: `the same that stores nothing: ${bare.p99.toFixed(1)} ms`,
      ratio: kept.p99 / bare.p99,
      ...spreadOf(ratios(({ p99 }) => p99)),
    },
  ];
}

async function receivedOnAzure(count: number): Promise<Figure> {
  const azurite = await startAzurite();
  try {
    const load = await underLoad(['azure', azurite.connectionString, 'bench'], count);
    return {
      what: `the same to Azurite`,
      value: `${Math.round(load.rate)} 202s/s, 99 of 100 within ${load.p99.toFixed(0)} ms`,
      against: 'two rows a webhook, Azurite on the same processors',
    };
  } finally {
    await azurite.stop();
  }
}

/** `nexus pull-webhooks` of a full mailbox in the embedded store, told to nobody. */
async function drained(place: (name: string) => Place, count: number): Promise<Figure> {
  const runs = await repeated((round) => drainedOnce(place(`drain-${round}`), count));
  const ms = middleOf(runs);
  return {
    what: `pull-webhooks, ${count.toLocaleString('en-US')} pending`,
    value: `${(ms / 1000).toFixed(1)} s (${Math.round(count / (ms / 1000))}/s), each synced`,
    against: 'one process from its start to its end',
    ...spreadOf(
      runs.map((one) => one / 1000),
      1,
      ' s',
    ),
  };
}

/** ms. */
async function drainedOnce({ stateDir, nexus }: Place, count: number): Promise<number> {
  const dataDir = path.join(path.dirname(stateDir), 'data');
  const inbox = path.join(stateDir, 'workspace', 'inbox', 'webhooks');
  await mkdir(path.join(stateDir, 'agents', 'main', 'sessions'), { recursive: true });
  await mkdir(path.join(stateDir, 'workspace'));
  await mkdir(dataDir, { mode: 0o700 });
  const webhooks = openWebhooks(await openLocalStore(path.join(dataDir, 'store')));
  const body = Buffer.from(JSON.stringify({ filling: 'x'.repeat(1000) }));
  for (let first = 0; first < count; first += 500)
    await Promise.all(
      Array.from({ length: Math.min(500, count - first) }, () =>
        webhooks.receive({
          agent: 'main',
          source: 'bench',
          contentType: 'application/json',
          headers: {},
          body,
        }),
      ),
    );
  await webhooks.close();
  const run = await nexus(['pull-webhooks', '--json'], { dataDir, notify: { by: 'none' } });
  const files = (await readdir(inbox)).filter((name) => name.endsWith('.json')).length;
  if (files !== count) throw new Error(`${files} of ${count} webhooks are in the inbox: ${run.stdout}`);
  return run.ms;
}

async function underLoad(args: string[], count: number): Promise<Load> {
  const script = path.join(import.meta.dirname, 'webhookserver.ts');
  const child = spawn(process.execPath, [script, ...args], {
    env: { ...process.env, BENCH_SECRET: secret },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  try {
    const [url]: unknown[] = await once(createInterface({ input: child.stdout }), 'line');
    const load = await sendAll(String(url), signedRequests(count, secret), connections);
    if (load.statuses['202'] !== count)
      throw new Error(`not all were kept: ${JSON.stringify(load.statuses)}`);
    return load;
  } finally {
    child.kill('SIGTERM');
    await ended;
  }
}

function middleLoad(loads: Load[]): Load {
  const sorted = loads.toSorted((one, other) => one.rate - other.rate);
  const middle = sorted[Math.floor(sorted.length / 2)];
  if (middle === undefined) throw new Error('nothing was measured');
  return middle;
}
