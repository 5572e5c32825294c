import { createHmac } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { openWebhooks } from '../../src/webhooks.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import { type Machine, newMachine, type Started } from './nexus.ts';

const listening = /Listening on (http:\/\/127\.0\.0\.1:(\d+)), storing in (\S+)\.\n/;

async function serving(
  machine: Machine,
  env: Record<string, string> = {},
): Promise<Started & { url: string }> {
  const started = machine.start(['serve', '--port', '0'], { env });
  const [, url = ''] = await started.shows(listening);
  return { ...started, url };
}

async function configure({ configFile }: Machine, settings: object): Promise<void> {
  await mkdir(path.dirname(configFile), { recursive: true });
  await writeFile(configFile, JSON.stringify(settings), { mode: 0o600 });
}

const github = (secret: unknown) => ({
  mailboxes: { main: { sources: { github: { verify: 'github', secret } } } },
});

/** What GitHub posts; the answer's status, and id where there is one. */
async function post(url: string, secret: string, body: string, delivery?: string) {
  const signature = createHmac('sha256', secret).update(body).digest('hex');
  const answer = await fetch(`${url}/api/webhook/main?source=github`, {
    method: 'POST',
    body,
    headers: {
      'content-type': 'application/json',
      'x-hub-signature-256': `sha256=${signature}`,
      ...(delivery === undefined ? {} : { 'x-github-delivery': delivery }),
    },
  });
  const { id }: { id?: string } = Object(await answer.json());
  return { status: answer.status, id };
}

test('killed under load, every webhook that it answered for is there afterwards, and none twice', async () => {
  const machine = await newMachine();
  await configure(machine, github('s'));
  const endpoint = await serving(machine);
  const answered = new Map<string, number>();
  let count = 0;
  const long = 'x'.repeat(60_000);
  async function sender(): Promise<void> {
    for (;;) {
      const n = count++;
      // Some are too long for a row, and every delivery is sent twice.
      const body = JSON.stringify({ n, text: n % 10 === 0 ? long : '' });
      try {
        for (let time = 0; time < 2; time++) {
          const { status, id } = await post(endpoint.url, 's', body, `delivery-${n}`);
          if (status !== 202 && status !== 200) throw new Error(`it answered ${status}`);
          answered.set(id ?? '', n);
        }
      } catch (error) {
        // The connection that the kill has cut.
        if (error instanceof TypeError) return;
        throw error;
      }
    }
  }
  const senders = Array.from({ length: 16 }, sender);
  await expect.poll(() => answered.size, { interval: 5, timeout: 10_000 }).toBeGreaterThan(300);
  endpoint.kill('SIGKILL');
  await Promise.all(senders);
  await endpoint.ended;

  const store = await openLocalStore(path.join(machine.dataDir, 'store'));
  const webhooks = openWebhooks(store);
  const stored = new Map<string, number>();
  for (let after; ; ) {
    const page = await webhooks.pending({
      agents: '*',
      limit: 1000,
      ...(after === undefined ? {} : { after }),
    });
    expect(page.broken).toBeUndefined();
    for (const { id, payloadText } of page.items) stored.set(id, JSON.parse(payloadText).n);
    after = page.next;
    if (after === undefined) break;
  }
  await webhooks.close();
  expect([...answered].filter(([id, n]) => stored.get(id) !== n)).toEqual([]);
  expect(new Set(stored.values()).size).toBe(stored.size);

  // What was not answered for is sent again by its sender, and then it is there, once.
  const next = await serving(machine);
  const there = new Set(stored.values());
  for (let n = 0; n < count; n += 1) {
    const body = JSON.stringify({ n, text: n % 10 === 0 ? long : '' });
    const { status } = await post(next.url, 's', body, `delivery-${n}`);
    expect(status).toBe(there.has(n) ? 200 : 202);
  }
}, 60_000);

test('sources and their secrets are taken anew from the configuration file while it runs', async () => {
  const machine = await newMachine();
  await configure(machine, github('one'));
  const { url } = await serving(machine);
  expect((await post(url, 'one', '{}')).status).toBe(202);
  const answers = (secret: string) =>
    expect.poll(async () => (await post(url, secret, '{}')).status, { timeout: 1000, interval: 10 });
  await configure(machine, github(['one', 'two']));
  await answers('two').toBe(202);
  await configure(machine, github('two'));
  await answers('one').toBe(401);
  await answers('two').toBe(202);
});

test('a secret in a file is read anew within seconds, one in the environment is found, and none is logged', async () => {
  const machine = await newMachine();
  const file = path.join(machine.home, 'secret');
  await writeFile(file, 'in the file\n', { mode: 0o600 });
  await configure(machine, github([{ file }, { env: 'MY_SECRET' }]));
  const endpoint = await serving(machine, { MY_SECRET: 'in the environment' });
  expect((await post(endpoint.url, 'in the file', '{}')).status).toBe(202);
  expect((await post(endpoint.url, 'in the environment', '{}')).status).toBe(202);
  await writeFile(file, 'changed\n', { mode: 0o600 });
  await expect
    .poll(async () => (await post(endpoint.url, 'changed', '{}')).status, { timeout: 8000, interval: 200 })
    .toBe(202);
  expect((await post(endpoint.url, 'in the file', '{}')).status).toBe(401);
  endpoint.kill('SIGTERM');
  const { stdout, stderr, status } = await endpoint.ended;
  expect(status).toBe(143);
  for (const hidden of ['in the file', 'in the environment', 'changed'])
    expect(stdout + stderr).not.toContain(hidden);
});

test('a configuration that has become wrong changes nothing and is told', async () => {
  const machine = await newMachine();
  await configure(machine, github('one'));
  const endpoint = await serving(machine);
  await configure(machine, github(undefined));
  expect((await post(endpoint.url, 'one', '{}')).status).toBe(202);
  await endpoint.shows(/Keys, mailboxes, budgets, alerts and prices stay as they were: .*secret/);
});

test('told to stop, it ends those who wait for mail and is gone at once', async () => {
  const machine = await newMachine();
  const endpoint = await serving(machine);
  const waiting = fetch(`${endpoint.url}/api/webhook/pending?agentId=main&wait=60`);
  await new Promise((resolve) => setTimeout(resolve, 200));
  const began = performance.now();
  endpoint.kill('SIGTERM');
  expect(await (await waiting).json()).toEqual({ main: [] });
  expect(await endpoint.ended).toMatchObject({ status: 143 });
  expect(performance.now() - began).toBeLessThan(4000);
});
