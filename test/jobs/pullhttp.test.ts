import { expect, test } from 'vitest';
import { openMailboxClient } from '../../src/http/mailboxclient.ts';
import { fileNameOf } from '../../src/jobs/inbox.ts';
import { keyWith, listeningEndpoint } from '../http/endpoint.ts';
import { makePullHost } from './pullhost.ts';

async function overHttp(agents: '*' | string[] = '*') {
  const { key, text } = keyWith(['pull'], agents);
  const endpoint = await listeningEndpoint({ keys: [key] });
  const host = await makePullHost(['main', 'other']);
  const stop = new AbortController();
  const open = () =>
    Promise.resolve(
      openMailboxClient({
        endpoint: endpoint.url,
        key: text,
        retries: { tries: 2, baseMs: 1, maxMs: 5 },
        signal: new AbortController().signal,
        version: '1.2.3',
      }),
    );
  const receive = async (agent = 'main', body = '{"n":12345678901234567890}') =>
    (
      await endpoint.webhooks.receive({
        agent,
        source: 'github',
        contentType: 'application/json',
        headers: {},
        body: Buffer.from(body),
      })
    ).id;
  return { endpoint, host, open, receive, stop };
}

test('mail of an endpoint elsewhere is delivered exactly and acknowledged there', async () => {
  const { host, open, receive, endpoint } = await overHttp();
  const ids = [await receive(), await receive('other')];
  expect(await host.pull({ open })).toMatchObject({ ok: true, delivered: 2 });
  expect(await host.files()).toEqual([fileNameOf({ id: ids[0] ?? '', source: 'github' })]);
  expect(await host.files('other')).toEqual([fileNameOf({ id: ids[1] ?? '', source: 'github' })]);
  expect((await endpoint.webhooks.pending({ agents: '*' })).items).toEqual([]);
  expect(await host.pull({ open })).toMatchObject({ ok: true, delivered: 0, already: 0 });
  await host.remove();
});

test('an agent outside the scope of the key fails alone', async () => {
  const { host, open, receive } = await overHttp(['other']);
  await receive();
  await receive('other');
  const report = await host.pull({ open });
  expect(report).toMatchObject({ ok: false, delivered: 1 });
  expect(report.failed.map(({ item }) => item)).toEqual(['agent main']);
  await host.remove();
});

test('a mailbox that another host has fails with the way to take it over', async () => {
  const { host, open, receive, endpoint } = await overHttp();
  await receive();
  await endpoint.webhooks.claim('main', 'elsewhere');
  const report = await host.pull({ open, agents: ['main'] });
  expect(report.failed).toHaveLength(1);
  expect(report.failed[0]?.reason).toMatch(/elsewhere.*nexus webhooks claim/);
  await host.remove();
});

test('what arrives is there within a moment when it is followed', async () => {
  const { host, open, receive, stop } = await overHttp();
  const following = host.follow({ open, signal: stop.signal, times: { waitMs: 5_000 } });
  await receive();
  await receive('other');
  await expect.poll(() => host.files(), { timeout: 5_000 }).toHaveLength(1);
  await expect.poll(() => host.files('other'), { timeout: 5_000 }).toHaveLength(1);
  stop.abort();
  expect(await following).toMatchObject({ delivered: 2, failed: [] });
  await host.remove();
});
