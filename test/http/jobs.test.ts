import { expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { readExposition } from '../prometheus.ts';
import { type Endpoint, keyWith, openEndpoint } from './endpoint.ts';

const at = Date.parse('2026-11-23T12:00:00Z');

const report = {
  job: 'upload',
  endedAt: at,
  seconds: 2.5,
  lastSuccessAt: at - 60_000,
  failures: 3,
  failedItems: 7,
  agents: [],
  sentAt: at,
};

async function tell(
  { app }: Endpoint,
  body: object,
  { host = 'box', key }: { host?: string; key?: string } = {},
): Promise<number> {
  const answer = await app.inject({
    method: 'PUT',
    url: `/api/jobs/${encodeURIComponent(host)}`,
    payload: body,
    headers: key === undefined ? {} : { 'x-functions-key': key },
  });
  return answer.statusCode;
}

async function scrape({ app }: Endpoint, key?: string) {
  const headers = key === undefined ? {} : { 'x-functions-key': key };
  return readExposition((await app.inject({ url: '/metrics', headers })).body);
}

const here = () => new Date(at);

test('what a host tells of its jobs is shown by host and job', async () => {
  const endpoint = await openEndpoint({ now: here });
  expect(await tell(endpoint, report)).toBe(200);
  expect(await tell(endpoint, { ...report, job: 'backfill', failures: 0 }, { host: 'other' })).toBe(200);
  const seen = await scrape(endpoint);
  const labels = { host: 'box', job: 'upload' };
  expect(seen.value('nexus_job_last_run_timestamp_seconds', labels)).toBe(at / 1000);
  expect(seen.value('nexus_job_last_success_timestamp_seconds', labels)).toBe(at / 1000 - 60);
  expect(seen.value('nexus_job_consecutive_failures', labels)).toBe(3);
  expect(seen.value('nexus_job_last_run_duration_seconds', labels)).toBe(2.5);
  expect(seen.value('nexus_job_last_run_failed_items', labels)).toBe(7);
  expect(seen.value('nexus_job_consecutive_failures', { host: 'other', job: 'backfill' })).toBe(0);
});

test('a host whose ledger is new does not take away when its job was last well', async () => {
  const endpoint = await openEndpoint({ now: here });
  await tell(endpoint, report);
  const { lastSuccessAt: _, ...unknown } = report;
  await tell(endpoint, { ...unknown, failures: 1 });
  const seen = await scrape(endpoint);
  const labels = { host: 'box', job: 'upload' };
  expect(seen.value('nexus_job_last_success_timestamp_seconds', labels)).toBe(at / 1000 - 60);
  expect(seen.value('nexus_job_consecutive_failures', labels)).toBe(1);
});

test("how far a host's agents lag is shown by agent", async () => {
  const endpoint = await openEndpoint({ now: here });
  const agents = [
    { agent: 'main', unshipped: 2, oldestAt: at - 3_600_000, untold: 0 },
    { agent: 'work', unshipped: 0, untold: 4 },
  ];
  await tell(endpoint, { ...report, job: 'status', agents });
  const seen = await scrape(endpoint);
  const of = (name: string, agent: string) => seen.value(`nexus_agent_${name}`, { host: 'box', agent });
  expect(of('unshipped_transcripts', 'main')).toBe(2);
  expect(of('oldest_unshipped_timestamp_seconds', 'main')).toBe(at / 1000 - 3600);
  expect(of('unshipped_transcripts', 'work')).toBe(0);
  expect(of('oldest_unshipped_timestamp_seconds', 'work')).toBeUndefined();
  expect(of('untold_messages', 'work')).toBe(4);
});

test('the clock of a host that goes wrong is set right', async () => {
  const endpoint = await openEndpoint({ now: here });
  const wrong = 86_400_000;
  const agents = [{ agent: 'main', unshipped: 1, oldestAt: at - 10_000 + wrong, untold: 0 }];
  const told = {
    ...report,
    endedAt: at - 1000 + wrong,
    lastSuccessAt: at - 2000 + wrong,
    sentAt: at + wrong,
    agents,
  };
  await tell(endpoint, told);
  const seen = await scrape(endpoint);
  const labels = { host: 'box', job: 'upload' };
  expect(seen.value('nexus_job_last_run_timestamp_seconds', labels)).toBe(at / 1000 - 1);
  expect(seen.value('nexus_job_last_success_timestamp_seconds', labels)).toBe(at / 1000 - 2);
  expect(seen.value('nexus_agent_oldest_unshipped_timestamp_seconds', { host: 'box', agent: 'main' })).toBe(
    at / 1000 - 10,
  );
});

test("a host's name is escaped, whatever it is", async () => {
  const endpoint = await openEndpoint({ now: here });
  const host = 'a"b\\c\nd é {x="1"} 1';
  expect(await tell(endpoint, report, { host })).toBe(200);
  expect((await scrape(endpoint)).value('nexus_job_consecutive_failures', { host, job: 'upload' })).toBe(3);
});

test.each([
  ['another job', { job: 'made-up' }],
  ['no times', { endedAt: 'now' }],
  ['less than nothing', { failures: -1 }],
  ['an agent that can be none', { agents: [{ agent: 'a b', unshipped: 0, untold: 0 }] }],
  ['more', { more: 1 }],
  [
    'too many agents',
    { agents: Array.from({ length: 201 }, (_, n) => ({ agent: `a${n}`, unshipped: 0, untold: 0 })) },
  ],
])('a report of %s is refused', async (_, wrong) => {
  const endpoint = await openEndpoint({ now: here });
  expect(await tell(endpoint, { ...report, ...wrong })).toBe(400);
  expect((await scrape(endpoint)).samples('nexus_job_consecutive_failures')).toEqual([]);
});

test('it is taken from who ships or pulls, and of an agent only from who may name it', async () => {
  const [upload, pull] = [keyWith(['upload']), keyWith(['pull'], ['main'])];
  const [read, webhook] = [keyWith(['read']), keyWith(['webhook'])];
  const keys = [upload.key, pull.key, read.key, webhook.key];
  const endpoint = await openEndpoint({ keys, now: here });
  const agents = (agent: string) => ({ ...report, agents: [{ agent, unshipped: 0, untold: 0 }] });
  expect(await tell(endpoint, report)).toBe(401);
  expect(await tell(endpoint, report, { key: read.text })).toBe(403);
  expect(await tell(endpoint, report, { key: webhook.text })).toBe(403);
  expect(await tell(endpoint, agents('work'), { key: pull.text })).toBe(403);
  expect(await tell(endpoint, agents('main'), { key: pull.text })).toBe(200);
  expect(await tell(endpoint, agents('work'), { key: upload.text })).toBe(200);
});

test('what is still to come is told as of now', async () => {
  const endpoint = await openEndpoint({ now: here });
  const late = Date.parse('9999-01-01T00:00:00Z');
  const agents = [{ agent: 'main', unshipped: 1, oldestAt: late, untold: 0 }];
  expect(await tell(endpoint, { ...report, endedAt: late, lastSuccessAt: late, agents })).toBe(200);
  const seen = await scrape(endpoint);
  const labels = { host: 'box', job: 'upload' };
  for (const name of ['last_run', 'last_success'])
    expect(seen.value(`nexus_job_${name}_timestamp_seconds`, labels)).toBe(at / 1000);
  expect(seen.value('nexus_agent_oldest_unshipped_timestamp_seconds', { host: 'box', agent: 'main' })).toBe(
    at / 1000,
  );
});

test('a key of some agents tells of no host of which another has told, as long as that one is good', async () => {
  const [all, main, work] = [keyWith(['upload']), keyWith(['upload'], ['main']), keyWith(['pull'], ['work'])];
  const other = { ...main.key, name: 'main-key' };
  const keys = [all.key, other, work.key];
  const endpoint = await openEndpoint({ keys, now: here });
  expect(await tell(endpoint, report, { key: main.text })).toBe(200);
  expect(await tell(endpoint, report, { key: work.text })).toBe(409);
  expect(await tell(endpoint, { ...report, job: 'backfill' }, { key: work.text })).toBe(409);
  expect(await tell(endpoint, report, { key: work.text, host: 'other' })).toBe(200);
  expect(await tell(endpoint, { ...report, failures: 5 }, { key: main.text })).toBe(200);
  const failures = async () =>
    (await scrape(endpoint, keyed.text)).value('nexus_job_consecutive_failures', {
      host: 'box',
      job: 'upload',
    });
  const keyed = keyWith(['read']);
  keys.push(keyed.key);
  expect(await failures()).toBe(5);
  // A key that was replaced holds no host.
  keys.splice(keys.indexOf(other), 1);
  expect(await tell(endpoint, report, { key: work.text })).toBe(200);
  expect(await tell(endpoint, report, { key: all.text })).toBe(200);
  expect(await tell(endpoint, report, { key: work.text })).toBe(409);
});

test('how many reports are not shown is said', async () => {
  const endpoint = await openEndpoint({ now: here });
  const { sentAt: _, ...told } = report;
  const shared = { partition: 'jobs', ...told, agents: '[]', reportedAt: at };
  for (let first = 0; first < 2003; first += 50)
    await Promise.all(
      Array.from({ length: Math.min(50, 2003 - first) }, (__, n) =>
        endpoint.store.put('Jobs', {
          ...shared,
          id: `r${10_000 + first + n}`,
          host: `h${first + n}`,
          reportedAt: at - first - n,
        }),
      ),
    );
  const seen = await scrape(endpoint);
  expect(seen.value('nexus_job_reports_left_out', {})).toBe(3);
  expect(seen.value('nexus_agent_reports_left_out', {})).toBe(0);
  expect(seen.samples('nexus_job_consecutive_failures')).toHaveLength(2000);
  expect(seen.value('nexus_job_consecutive_failures', { host: 'h0', job: 'upload' })).toBe(3);
});

test('the largest report is kept whole', async () => {
  const endpoint = await openEndpoint({ now: here });
  const agents = Array.from({ length: 200 }, (_, n) => ({
    agent: `${'x'.repeat(60)}${1000 + n}`,
    unshipped: 1_000_000_000,
    oldestAt: at,
    untold: 1_000_000_000,
  }));
  expect(await tell(endpoint, { ...report, job: 'status', agents })).toBe(200);
  expect((await scrape(endpoint)).samples('nexus_agent_unshipped_transcripts')).toHaveLength(200);
});

test('a host that has said nothing for a month is no longer shown, and forgotten', async () => {
  let now = at;
  const endpoint = await openEndpoint({ now: () => new Date(now) });
  const { openJobReports } = await import('../../src/jobreports.ts');
  const jobs = openJobReports(endpoint.store, () => new Date(now));
  const { sentAt: _, ...told } = report;
  await jobs.put('gone', { ...told, job: 'upload' });
  now += 31 * 86_400_000;
  await jobs.put('here', { ...told, job: 'upload' });
  expect((await jobs.list()).reports.map(({ host }) => host)).toEqual(['here']);
  const rows = [];
  for await (const row of endpoint.store.rows('Jobs', 'jobs')) rows.push(row['host']);
  expect(rows).toEqual(['here']);
});

test('a store that may not be used is no refusal of the key', async () => {
  const endpoint = await openEndpoint({ now: here });
  endpoint.store.put = () => Promise.reject(new NexusError('forbidden', 'The credentials do not allow it.'));
  expect(await tell(endpoint, report)).toBe(503);
});
