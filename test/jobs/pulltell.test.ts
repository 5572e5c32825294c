import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Config } from '../../src/config.ts';
import { valueAt } from '../../src/settings.ts';
import type { Batch, BatchState } from '../../src/jobs/deliveries.ts';
import type { PullReport } from '../../src/jobs/pullreport.ts';
import { tellDue } from '../../src/jobs/pulltell.ts';
import { makePullHost, type PullHost, type PullHostOptions } from './pullhost.ts';

interface Told {
  headers: IncomingHttpHeaders;
  message: string;
  agentId: string;
}

/** OpenClaw's hooks as its documentation has them; what they answer is set by each test. */
interface Gateway {
  told: Told[];
  answer: (told: Told) => [status: number, body: object];
  server: Server;
}

const textAt = (value: unknown, field: string): string => String(valueAt(value, [field]));

const finished: Gateway['answer'] = () => [200, { ok: true, runId: 'run-1', completion: { status: 'ok' } }];
const wentWrong: Gateway['answer'] = () => [
  200,
  { ok: true, runId: 'run-1', completion: { status: 'error' } },
];
const full: Gateway['answer'] = () => [503, { ok: false, error: 'too many runs' }];

let host: PullHost;
let gateway: Gateway;
let at: number;

beforeEach(async () => {
  host = await makePullHost();
  at = Date.now();
  const server = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    request.on('end', () => {
      const sent: unknown = JSON.parse(Buffer.concat(pieces).toString());
      const told = {
        headers: request.headers,
        message: textAt(sent, 'message'),
        agentId: textAt(sent, 'agentId'),
      };
      gateway.told.push(told);
      const [status, body] = gateway.answer(told);
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  gateway = { told: [], answer: finished, server };
  await openclaw({});
});

afterEach(async () => {
  gateway.server.close();
  await host.remove();
});

async function openclaw(over: object): Promise<void> {
  const address = gateway.server.address();
  const port = typeof address === 'object' ? address?.port : undefined;
  await writeFile(
    path.join(host.root, 'openclaw', 'openclaw.json'),
    JSON.stringify({ gateway: { port }, hooks: { enabled: true, token: 'hooks-token' }, ...over }),
  );
}

const minutes = (count: number) => (at += count * 60_000);

function pull(
  over: Partial<Config> = {},
  through: Pick<PullHostOptions, 'ledger'> = {},
): Promise<PullReport> {
  const given = { notify: { ...host.config().notify, by: 'auto' as const }, ...over };
  const env = { OPENCLAW_STATE_DIR: path.join(host.root, 'openclaw'), HOME: host.root };
  return host.pull({
    ...through,
    config: given,
    tell: tellDue(host.config(given), env),
    now: () => new Date(at),
  });
}

function batches(...states: BatchState[]): Batch[] {
  const deliveries = host.deliveries();
  const found = deliveries.batches(states);
  deliveries.close();
  return found;
}

test('what was delivered is told in one message that names the files, and is done when the agent has finished', async () => {
  const ids = [await host.receive(), await host.receive({ source: 'stripe' })];
  expect(await pull()).toMatchObject({ ok: true, delivered: 2, notified: { done: 1, admitted: 0 } });
  const [told, ...more] = gateway.told;
  const [batch] = batches('done');
  expect(more).toEqual([]);
  expect(told?.agentId).toBe('main');
  expect(told?.headers).toMatchObject({ authorization: 'Bearer hooks-token', 'idempotency-key': batch?.id });
  for (const id of ids) expect(told?.message).toContain(id);
  expect(told?.message).toContain(host.inbox());
  expect(await pull()).toMatchObject({ ok: true, delivered: 0, notified: { done: 0, waiting: 0 } });
  expect(gateway.told).toHaveLength(1);
});

test('a message that OpenClaw does not take is named, and told by a later run as the same, without delivering again', async () => {
  gateway.answer = full;
  await host.receive();
  const first = await pull();
  expect(first).toMatchObject({ ok: false, delivered: 1, notified: { failed: 1 } });
  expect(first.failed).toHaveLength(1);
  expect(batches('untold')).toMatchObject([{ attempts: 0 }]);
  // Too soon to be asked again, and said all the same.
  expect(await pull()).toMatchObject({ ok: false, notified: { waiting: 1 } });
  expect(gateway.told).toHaveLength(1);
  gateway.answer = finished;
  minutes(2);
  expect(await pull()).toMatchObject({ ok: true, delivered: 0, notified: { done: 1 } });
  expect(gateway.told[1]?.message).toBe(gateway.told[0]?.message);
  expect(gateway.told[1]?.headers['idempotency-key']).toBe(gateway.told[0]?.headers['idempotency-key']);
});

test('a run that ends in an error is told again, marked as a repeat, at most five times, and has failed then', async () => {
  gateway.answer = wentWrong;
  await host.receive();
  expect((await pull()).notified).toMatchObject({ admitted: 1, repeated: 0, failed: 0 });
  minutes(5);
  expect((await pull()).notified).toMatchObject({ waiting: 1 });
  for (const [n, wait] of [15, 30, 60, 120].entries()) {
    minutes(wait);
    expect((await pull()).notified, `repeat ${n + 2}`).toMatchObject({ repeated: 1, admitted: 0 });
  }
  minutes(120);
  const last = await pull();
  expect(last).toMatchObject({ ok: false, notified: { failed: 1 } });
  expect(gateway.told).toHaveLength(5);
  const [first, ...repeats] = gateway.told;
  for (const repeat of repeats) {
    expect(repeat.message.split('\n')[0]).toContain('repeat');
    expect(repeat.message.endsWith(first?.message ?? '')).toBe(true);
  }
  expect(batches('failed')).toHaveLength(1);
  minutes(600);
  expect(await pull()).toMatchObject({ ok: true, notified: { failed: 0 } });
});

test('a message that was sent by a process that died then is the same run for five minutes, and after 15 a repeat', async () => {
  await host.receive();
  const dies: Pick<PullHostOptions, 'ledger'> = {
    ledger: (deliveries) => ({
      ...deliveries,
      updateBatch(batch, change) {
        // Dead when the gateway has answered.
        if (gateway.told.length > 0) throw new Error('The process is dead.');
        deliveries.updateBatch(batch, change);
      },
    }),
  };
  expect(await pull({}, dies)).toMatchObject({ ok: false });
  const keys = () => gateway.told.map(({ headers }) => headers['idempotency-key']);
  const [batch] = batches('admitted');
  expect(batch).toMatchObject({ attempts: 1, agent: 'main' });
  minutes(2);
  gateway.told.length = 0;
  await pull({}, dies);
  expect(keys()).toEqual([batch?.id]);
  minutes(4);
  expect((await pull()).notified).toMatchObject({ waiting: 1 });
  minutes(10);
  expect((await pull()).notified).toMatchObject({ done: 1 });
  expect(keys()).toEqual([batch?.id, `${batch?.id}.r2`]);
  expect(gateway.told[1]?.message.split('\n')[0]).toContain('repeat');
});

test('a message whose answer stands in a transcript is done and not told again', async () => {
  gateway.answer = () => [200, { ok: true, runId: 'run-1' }];
  await host.receive();
  expect((await pull()).notified).toMatchObject({ admitted: 1 });
  const sessions = path.join(host.root, 'openclaw', 'agents', 'main', 'sessions');
  await mkdir(sessions, { recursive: true });
  const line = (role: string, text: string) =>
    `${JSON.stringify({ type: 'message', message: { role, content: [{ type: 'text', text }] } })}\n`;
  const id = 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa';
  const head = `${JSON.stringify({ type: 'session', version: 3, id, cwd: '/' })}\n`;
  await writeFile(
    path.join(sessions, `${id}.jsonl`),
    head + line('user', gateway.told[0]?.message ?? '') + line('assistant', 'Done.'),
  );
  minutes(1);
  expect((await pull()).notified).toMatchObject({ done: 1, waiting: 0 });
  expect(gateway.told).toHaveLength(1);
});

test('an agent whose tools cannot see its inbox is sent what came', async () => {
  await openclaw({ agents: { defaults: { sandbox: { mode: 'all', workspaceAccess: 'none' } } } });
  await host.receive({ body: Buffer.from('{"secret word":"rhubarb"}') });
  const large = await host.receive({ body: Buffer.alloc(150_000, 'x'), contentType: 'text/plain' });
  expect(await pull()).toMatchObject({ ok: true, notified: { done: 1 } });
  expect(gateway.told[0]?.message).toContain('"secret word":"rhubarb"');
  expect(gateway.told[0]?.message).toMatch(new RegExp(`${large} .*\\d{6} bytes`));
});

test('where nobody is to be told any more, what was not told yet is not told', async () => {
  gateway.answer = full;
  await host.receive();
  await pull();
  const { notify } = host.config();
  expect(await pull({ notify: { ...notify, by: 'none' } })).toMatchObject({ ok: true, failed: [] });
  expect(batches('untold')).toEqual([]);
  expect(batches('none')).toHaveLength(1);
});

test('each of several batches is told by itself, the oldest first, and a gateway that is down is not asked for all', async () => {
  gateway.answer = full;
  const order: string[] = [];
  for (let n = 0; n < 5; n++) {
    order.push(await host.receive());
    await pull({ agents: { main: { notify: 'hooks' } } });
    at += 10;
  }
  gateway.told.length = 0;
  minutes(20);
  await pull();
  expect(gateway.told).toHaveLength(3);
  gateway.answer = finished;
  gateway.told.length = 0;
  minutes(20);
  expect((await pull()).notified).toMatchObject({ done: 5 });
  expect(gateway.told.map(({ message }) => order.findIndex((id) => message.includes(id)))).toEqual([
    0, 1, 2, 3, 4,
  ]);
});
