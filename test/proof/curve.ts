import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { openLocalStore } from '../../src/stores/local.ts';
import { openWebhooks } from '../../src/webhooks.ts';
import { type Load, sendAll, signedRequests } from '../bench/webhookload.ts';
import type { Broken, Count, Site, Table } from './part.ts';
import { freePort, inspectedAt, liveMiBOf, medianOf } from './vitals.ts';
import { newWorld } from './world.ts';

const secret = 'the secret of the curve';
/** Reachable after thousands of webhooks, beyond what was when it was warm. */
const mostGrownMiB = 6;
const steps = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/** The peers: the endpoint without a store, and Fastify that does nothing at all with what it reads. */
const peers = [
  ['nothing', 'webhookserver.ts', 'nothing'],
  ['bare', 'barefastify.ts'],
] as const;

interface Target {
  name: 'stored' | 'nothing' | 'bare';
  url: string;
  stop: () => Promise<unknown>;
  /** Answers a second of the last step: how many to make ready for the next. */
  rate: number;
  loads: Load[][];
}

/** Signed webhooks of 1 KiB over ever more connections to the built `nexus serve`, and to its peers by turns. */
export async function curve(site: Site): Promise<{ counts: Count[]; broken: Broken[]; tables: Table[] }> {
  const world = await newWorld(site.directory);
  const sources = { github: { verify: 'github', secret: { env: 'BENCH_SECRET' } } };
  await world.configure({ mailboxes: { main: { sources } } });
  const inspector = await freePort();
  const serving = await world.serve({ BENCH_SECRET: secret, ...inspectedAt(inspector) });
  const ended = async (): Promise<unknown> => {
    serving.kill('SIGTERM');
    return await serving.ended;
  };
  const blank = { rate: 400, loads: [] };
  const targets: Target[] = [{ name: 'stored', url: serving.url, stop: ended, ...structuredClone(blank) }];
  const acknowledged = new Set<string>();
  const wrong: string[] = [];
  let held = '';
  let doubled = 0;
  const keep = (status: string, body: string): void => {
    if (status !== '202') return;
    const { id }: { id: string } = JSON.parse(body);
    if (acknowledged.has(id)) doubled++;
    acknowledged.add(id);
  };
  try {
    for (const [name, ...script] of peers)
      targets.push({ name, ...structuredClone(blank), ...(await start(script, site.directory)) });
    const left = Math.max(0, site.deadline - Date.now());
    const rounds = left > 240_000 ? 3 : 1;
    const stepMs = Math.min(5000, Math.max(600, left / rounds / steps.length / (targets.length + 1)));
    // What is not counted: the first requests of a process are slow.
    for (const { url } of targets)
      await sendAll(url, signedRequests(1500, secret), 16, url === serving.url ? keep : undefined);
    const warm = await liveMiBOf(inspector);
    for (let round = 0; round < rounds; round++)
      for (const [step, connections] of steps.entries())
        for (const target of targets) {
          const ready = signedRequests(Math.ceil((target.rate * 2.5 * stepMs) / 1000) + connections, secret);
          const load = await sendAll(
            target.url,
            forSoLong(ready, stepMs),
            connections,
            target.name === 'stored' ? keep : undefined,
          );
          target.rate = load.rate;
          (target.loads[step] ??= []).push(load);
        }
    const grown = (await liveMiBOf(inspector)) - warm;
    held = `${Math.max(0, grown).toFixed(1)} MiB more`;
    if (grown > mostGrownMiB)
      wrong.push(`serve holds ${held} after ${acknowledged.size} webhooks; the bound is ${mostGrownMiB} MiB`);
    site.say(`curve: ${acknowledged.size} webhooks acknowledged`);
  } finally {
    for (const { stop } of targets) await stop();
  }
  if (doubled > 0) wrong.push(`${doubled} ids were given to two webhooks`);
  const missing = await missingIn(path.join(world.dataDir, 'store'), acknowledged);
  if (missing > 0)
    wrong.push(`${missing} of ${acknowledged.size} acknowledged webhooks are not in the store`);
  const answers = targets[0]?.loads.flat().flatMap(({ statuses }) => Object.entries(statuses)) ?? [];
  const others = answers.filter(([status]) => !['202', '503'].includes(status));
  if (others.length > 0) wrong.push(`webhooks were answered ${others.map(([status]) => status).join(', ')}`);
  return {
    counts: [
      {
        what: 'webhooks acknowledged at 1 to 256 connections, all in the store, once',
        count: acknowledged.size,
      },
    ],
    broken: wrong.map((what) => ({ what, again: `npm run prove -- --seed ${site.seed} load` })),
    tables: [tableOf(targets, held)],
  };
}

function* forSoLong(requests: Buffer[], ms: number): Iterable<Buffer> {
  const until = performance.now() + ms;
  for (const request of requests) {
    if (performance.now() >= until) return;
    yield request;
  }
}

/** How many of these are not listed, or not once. */
async function missingIn(directory: string, ids: ReadonlySet<string>): Promise<number> {
  const webhooks = openWebhooks(await openLocalStore(directory));
  try {
    const found = new Set<string>();
    let twice = 0;
    for await (const { id } of webhooks.list()) {
      if (found.has(id)) twice++;
      found.add(id);
    }
    return twice + [...ids].filter((id) => !found.has(id)).length;
  } finally {
    await webhooks.close();
  }
}

function tableOf(targets: Target[], held: string): Table {
  const rows = steps.map((connections, step) => {
    const middle = (name: string, of: (load: Load) => number): number =>
      medianOf(targets.find((target) => target.name === name)?.loads[step]?.map(of) ?? []);
    const rate = middle('stored', (load) => load.rate);
    const peer = (name: string): string => {
      const its = middle(name, (load) => load.rate);
      return `${its.toFixed(0)} (${(rate / its).toFixed(2)}x)`;
    };
    const busy = targets[0]?.loads[step]?.reduce((sum, { statuses }) => sum + (statuses['503'] ?? 0), 0) ?? 0;
    const rates = targets[0]?.loads[step]?.map((load) => load.rate) ?? [];
    return [
      String(connections),
      rates.length > 1
        ? `${rate.toFixed(0)} (${Math.min(...rates).toFixed(0)}–${Math.max(...rates).toFixed(0)})`
        : rate.toFixed(0),
      ...(['p50', 'p90', 'p99'] as const).map((part) => middle('stored', (load) => load[part]).toFixed(2)),
      String(busy),
      peer('nothing'),
      middle('nothing', (load) => load.p99).toFixed(2),
      peer('bare'),
      middle('bare', (load) => load.p99).toFixed(2),
    ];
  });
  return {
    title: `Webhooks of 1 KiB, signed, each on stable storage before its 202; the sender on the same processors. In the end serve held ${held} that is reachable`,
    columns: [
      'connections',
      'durable 202s/s',
      'p50 ms',
      'p90 ms',
      'p99 ms',
      '503s',
      'the same that stores nothing, /s',
      'its p99 ms',
      'bare Fastify, /s',
      'its p99 ms',
    ],
    rows,
  };
}

async function start(
  [file = '', ...args]: readonly string[],
  directory: string,
): Promise<Pick<Target, 'url' | 'stop'>> {
  const script = path.join(import.meta.dirname, '..', 'bench', file);
  const child = spawn(process.execPath, [script, ...args, path.join(directory, 'nothing')], {
    env: { ...process.env, BENCH_SECRET: secret },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  const [url]: unknown[] = await once(createInterface({ input: child.stdout }), 'line');
  return {
    url: String(url),
    stop: () => {
      child.kill('SIGTERM');
      return ended;
    },
  };
}
