import { onTestFinished, expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { followPutio, type PutioStanding } from '../../src/jobs/putiopull.ts';
import type { Mailbox } from '../../src/mailbox.ts';
import { makePullHost, type PullHost } from '../jobs/pullhost.ts';
import { type PutioServer, refusal, startPutio, token } from './server.ts';

interface Following {
  host: PullHost;
  putio: PutioServer;
  standing: PutioStanding;
  warnings: string[];
}

/** Looks every few ms, until the test is over. */
async function following(begin: (at: Following) => void, mailbox: Partial<Mailbox> = {}): Promise<Following> {
  const host = await makePullHost();
  const putio = await startPutio();
  const stop = new AbortController();
  const { confirm } = host.config().putio;
  const settings = { confirm, reconcileMinutes: 15, apiBase: putio.base, token, agent: 'main' };
  const at: Following = { host, putio, standing: { failed: [], setAside: [] }, warnings: [] };
  begin(at);
  let quarters = 0;
  const around = {
    config: host.config({ putio: settings }),
    env: {},
    signal: stop.signal,
    now: () => new Date(Date.now() + quarters++ * 900_000),
    warn: (message: string) => void at.warnings.push(message),
  };
  const open = () => Promise.resolve({ ...host.webhooks, ...mailbox, close: () => Promise.resolve() });
  const end = followPutio(around, open, at.standing, 10);
  onTestFinished(async () => {
    stop.abort();
    await end;
    await host.remove();
  });
  return at;
}

test('what lasts stands as failed until it is well again, and is said once', async () => {
  const at = await following(({ putio }) => {
    putio.fault = () => refusal(401, 'invalid_grant', 'no');
  });
  const { standing, warnings, putio } = at;
  await expect.poll(() => standing.failed).toMatchObject([{ item: 'put.io' }]);
  await expect.poll(() => putio.asked.length).toBeGreaterThan(5);
  expect(warnings).toHaveLength(1);
  putio.fault = () => undefined;
  await expect.poll(() => standing.failed).toEqual([]);
});

test('what put.io may have by itself is said, and is no failure', async () => {
  const { standing, warnings } = await following(({ putio }) => {
    putio.fault = () => refusal(503, 'Oops', 'no');
  });
  await expect.poll(() => warnings.length).toBe(1);
  expect(standing.failed).toEqual([]);
});

test('a transfer that cannot be kept stands as failed, and then as set aside', async () => {
  const refuse = () => Promise.reject(new NexusError('too_large', 'The body exceeds 1 MB.'));
  const { standing, warnings } = await following(({ putio }) => void putio.add(1, {}, 600_000), {
    add: refuse,
  });
  await expect.poll(() => warnings.join()).toMatch(/transfer 1 .*: The body exceeds 1 MB/);
  await expect
    .poll(() => standing)
    .toMatchObject({ failed: [], setAside: [{ reason: 'The body exceeds 1 MB.' }] });
});
