import { expect, onTestFinished, test } from 'vitest';
import { type Confirm, confirmAt } from '../../src/jobs/confirming.ts';
import { type Confirmed, fileNameOf, fileTextOf, openInbox, temporaryName } from '../../src/jobs/inbox.ts';
import { openPutio } from '../../src/putio/api.ts';
import { makePullHost, type PullHost } from '../jobs/pullhost.ts';
import { codeOf } from '../stores/outcomes.ts';
import { apiTime, type PutioServer, refusal, startPutio, token } from './server.ts';

const form = 'application/x-www-form-urlencoded';

interface Site {
  host: PullHost;
  putio: PutioServer;
  warnings: string[];
  receive: (body: string, source?: string) => Promise<string>;
  /** Pulls, and answers what the inbox file of an item says. */
  confirmed: (id: string) => Promise<unknown>;
  pull: () => Promise<void>;
  file: (id: string, source?: string) => Promise<Record<string, unknown>>;
}

async function site(longest?: number): Promise<Site> {
  const host = await makePullHost();
  onTestFinished(() => host.remove());
  const putio = await startPutio();
  const warnings: string[] = [];
  const confirm: Confirm = confirmAt(
    () => Promise.resolve(openPutio({ base: putio.base, token, timeoutMs: 300 })),
    (message) => void warnings.push(message),
    longest,
  );
  const file = async (id: string, source = 'putio') =>
    Object.fromEntries(Object.entries(Object(await host.read(`${source}_${id}.json`))));
  const pull = async () => {
    const report = await host.pull({ confirm });
    expect(report.failed).toEqual([]);
  };
  return {
    host,
    putio,
    warnings,
    pull,
    file,
    receive: (body, source = 'putio') =>
      host.receive({ source, contentType: form, headers: {}, body: Buffer.from(body) }),
    async confirmed(id) {
      await pull();
      return (await file(id))['confirmed'];
    },
  };
}

test('the inbox file has the payload as it came, and beside it the transfer', async () => {
  const { putio, receive, pull, file } = await site();
  putio.add(7);
  const at = apiTime(0);
  const id = await receive(`id=7&file_id=900007&size=12&is_private=False&name=1&finished_at=${at}`);
  await pull();
  const content = await file(id);
  expect(content['payload']).toEqual({
    id: '7',
    file_id: '900007',
    size: '12',
    is_private: 'False',
    name: '1',
    finished_at: at,
  });
  expect(content['transfer']).toEqual({
    id: 7,
    fileId: 900_007,
    size: 12,
    isPrivate: false,
    name: '1',
    finishedAt: `${at}Z`,
  });
  expect(Object.keys(content).slice(-3)).toEqual(['confirmed', 'transfer', 'payload']);
});

test('what put.io knows is confirmed', async () => {
  const { putio, receive, confirmed } = await site();
  const at = apiTime(0);
  putio.add(7, { status: 'SEEDING', finished_at: at });
  expect(await confirmed(await receive(`id=7&file_id=900007&finished_at=${at}`))).toBe(true);
  expect(await confirmed(await receive('id=7'))).toBe(true);
});

test.each([
  ['a transfer that it does not have', 'id=8'],
  ['another file', 'id=7&file_id=1'],
  ['another time', 'id=7&finished_at=2020-01-01T00:00:00'],
  ['one that is not finished', 'id=9'],
  ['no transfer at all', 'hello=world'],
  ['another name', 'id=7&file_id=900007&name=Evil.exe'],
  ['another size', 'id=7&size=1'],
  ['another source', 'id=7&source=http%3A%2F%2Fevil.example'],
  ['a failure of what went well', 'id=7&status=ERROR'],
  ['a file that put.io lacks', 'id=10&file_id=1'],
])('%s is not confirmed, and delivered all the same', async (_, body) => {
  const { putio, receive, confirmed } = await site();
  putio.add(7);
  putio.add(9, { status: 'DOWNLOADING', finished_at: null });
  putio.add(10, { file_id: null });
  expect(await confirmed(await receive(body))).toBe(false);
});

test('a put.io that does not answer delays no other mail, is asked once, and its mail comes unconfirmed', async () => {
  const { putio, host, receive, pull, file, warnings } = await site();
  let delivered = -1;
  putio.fault = async () => {
    delivered = (await host.files()).length;
    return { silent: true };
  };
  const theirs: string[] = [];
  for (let id = 1; id <= 10; id++) theirs.push(await receive(`id=${id}`));
  await receive('a=1', 'github');
  const began = performance.now();
  await pull();
  expect(performance.now() - began).toBeLessThan(2500);
  expect(delivered).toBe(1);
  for (const id of theirs) expect((await file(id))['confirmed']).toBe('unavailable');
  // As many as are asked about at once had begun.
  expect(putio.asked.length).toBeLessThanOrEqual(4);
  expect(warnings).toEqual([
    'What came from put.io is delivered unconfirmed: put.io has not answered within 0.3 s.',
  ]);
  await receive('id=99');
  const asked = putio.asked.length;
  await pull();
  expect(putio.asked).toHaveLength(asked);
});

test.each([
  ['a token that is refused', refusal(401, 'invalid_grant', 'no')],
  ['a limit', { ...refusal(429, 'RATE_LIMIT', 'slow'), headers: { 'retry-after': '3600' } }],
  ['trouble at put.io', refusal(500, 'Oops', 'no')],
  ['a page of a proxy', { status: 200, body: '<html>' }],
])('with %s it is unavailable', async (_, fault) => {
  const { putio, receive, confirmed } = await site();
  putio.fault = () => fault;
  expect(await confirmed(await receive('id=7'))).toBe('unavailable');
});

test('what this host fetched from put.io is confirmed without asking', async () => {
  const { host, putio, pull, file } = await site();
  const { id } = await host.webhooks.add({
    agent: 'main',
    source: 'putio',
    contentType: form,
    body: Buffer.from('id=7'),
    delivery: '7',
  });
  await pull();
  expect(await file(id)).toMatchObject({ reconciled: true, confirmed: true, transfer: { id: 7 } });
  expect(putio.asked).toEqual([]);
});

test("of a source that is not the account's nobody is asked, and its transfer is there", async () => {
  const { putio, receive, pull, file } = await site();
  const id = await receive('id=7&name=x', 'putio-second');
  await pull();
  const content = await file(id, 'putio-second');
  expect(content).toMatchObject({ transfer: { id: 7 } });
  expect(content).not.toHaveProperty('confirmed');
  expect(putio.asked).toEqual([]);
});

test('what there was no time to ask about is counted', async () => {
  const { receive, confirmed, warnings } = await site(-1);
  await receive('id=6');
  expect(await confirmed(await receive('id=7'))).toBe('unavailable');
  expect(warnings).toEqual([
    '2 items from put.io came too many at once to ask about, and are delivered unconfirmed.',
  ]);
});

test('what others send is not asked about and has no transfer', async () => {
  const { putio, receive, pull, file } = await site();
  const id = await receive('id=7&name=x', 'github');
  await pull();
  const content = await file(id, 'github');
  expect(Object.keys(content)).toEqual(['id', 'source', 'receivedAt', 'contentType', 'headers', 'payload']);
  expect(putio.asked).toEqual([]);
});

test('the same item is there already, whatever was answered when it was asked about; another is not', async () => {
  const { host } = await site();
  const item = {
    id: 'main.000000001',
    source: 'putio',
    receivedAt: '2026-11-23T10:00:00.000Z',
    contentType: 'application/json',
    headers: { confirmed: 'true' },
    payloadText: '{\n  "confirmed": true,\n  "id": 7\n}',
  };
  const inbox = await openInbox(host.workspace());
  try {
    const place = async (payloadText: string, confirmed?: Confirmed) => {
      const temp = temporaryName();
      await inbox.write(temp, fileTextOf({ ...item, payloadText }, confirmed));
      return await inbox.place(temp, fileNameOf(item));
    };
    expect(await place(item.payloadText, 'unavailable')).toBe('placed');
    expect(await place(item.payloadText, true)).toBe('there');
    expect(await place(item.payloadText, false)).toBe('there');
    const other = item.payloadText.replace('true', 'false');
    expect(await codeOf(place(other, 'unavailable'))).toBe('conflict');
    expect(await codeOf(place(item.payloadText.replace('7', '8'), true))).toBe('conflict');
  } finally {
    await inbox.close();
  }
});
