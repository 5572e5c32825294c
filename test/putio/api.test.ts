import { expect, test } from 'vitest';
import { describe as told } from '../../src/errors.ts';
import { openPutio, type Putio } from '../../src/putio/api.ts';
import { failure } from '../stores/outcomes.ts';
import { type PutioServer, refusal, startPutio, token } from './server.ts';

const at = new Date('2026-11-23T10:00:00Z');

async function account(): Promise<{ server: PutioServer; putio: Putio }> {
  const server = await startPutio();
  return { server, putio: openPutio({ base: server.base, token, timeoutMs: 500, now: () => at }) };
}

async function sentence(work: Promise<unknown>): Promise<string> {
  const error = await failure(work);
  expect(told(error)).not.toContain(token);
  return `${error.code}: ${told(error)}`;
}

test('the token goes in its header, and in no URL', async () => {
  const { server, putio } = await account();
  await putio.callback();
  expect(server.asked).toEqual([
    { method: 'GET', path: '/account/settings', authorization: `Token ${token}`, body: '' },
  ]);
});

test('the callback is set, read and taken away', async () => {
  const { putio, server } = await account();
  expect(await putio.callback()).toBeUndefined();
  await putio.setCallback('https://nexus.example.net/x');
  expect(await putio.callback()).toBe('https://nexus.example.net/x');
  await putio.setCallback(undefined);
  expect(server.callback).toBeNull();
});

test('all pages of transfers are listed', async () => {
  const { server, putio } = await account();
  for (let id = 1; id <= 250; id++) server.add(id);
  const ids: unknown[] = [];
  for await (const transfer of putio.transfers()) ids.push(Reflect.get(transfer, 'id'));
  expect(ids).toEqual(Array.from({ length: 250 }, (_, n) => n + 1));
  expect(server.asked.map(({ method, path, body }) => `${method} ${path} ${body}`)).toEqual([
    'GET /transfers/list?per_page=100 ',
    'POST /transfers/list/continue?per_page=100 cursor=100',
    'POST /transfers/list/continue?per_page=100 cursor=200',
  ]);
});

test('a cursor that leads back to itself ends in an error, not in a circle', async () => {
  const { server, putio } = await account();
  server.fault = () => ({ body: { transfers: [], cursor: 'same' } });
  const all = async () => {
    for await (const _ of putio.transfers());
  };
  expect(await sentence(all())).toMatch(/^unavailable: put\.io answered a page of its transfers twice\./);
});

test('a list and a history without end are given up, by pages and by time', async () => {
  const { server } = await account();
  let n = 0;
  server.fault = ({ path }) =>
    path.startsWith('/events')
      ? { body: { events: [{ id: 1e9 - ++n, type: 'upload', created_at: 'never' }], has_more: true } }
      : { body: { transfers: [], cursor: String(++n) } };
  const endless = openPutio({ base: server.base, token });
  const all = async (what: AsyncIterable<unknown>) => {
    for await (const _ of what);
  };
  expect(await sentence(all(endless.transfers()))).toMatch(/^unavailable: .* more than 1000 pages/);
  expect(await sentence(all(endless.events()))).toMatch(/^unavailable: .* more than 1000 pages/);
  const bounded = openPutio({ base: server.base, token, wholeMs: 100 });
  const began = performance.now();
  expect(await sentence(all(bounded.transfers()))).toMatch(
    /^unavailable: put\.io has not (told all|answered)/,
  );
  expect(performance.now() - began).toBeLessThan(1000);
  expect(await sentence(bounded.callback())).toMatch(/^unavailable: put\.io has not told all within 0\.1 s/);
}, 20_000);

test('a history that does not go on ends in an error', async () => {
  const { server, putio } = await account();
  server.fault = () => ({ body: { events: [{ type: 'upload' }, null], has_more: true } });
  const all = async () => {
    for await (const _ of putio.events());
  };
  expect(await sentence(all())).toMatch(/^unavailable: put\.io answered a page of its history twice/);
});

test.each([{}, { id: 8 }, { id: '7' }])('an answer about %j is none about a transfer', async (transfer) => {
  const { server, putio } = await account();
  server.fault = () => ({ body: { status: 'OK', transfer } });
  expect(await sentence(putio.transfer(7))).toMatch(/^unavailable: What answers at .* is not put\.io's API/);
});

test('beyond its limit the account is told when it may ask again', async () => {
  const { server, putio } = await account();
  server.limit = 1;
  await putio.callback();
  expect(await failure(putio.callback())).toMatchObject({ code: 'limited' });
});

test("what put.io says cannot forge lines, nor fill a screen, nor show another's address", async () => {
  const { server, putio } = await account();
  const type = `NO\u001b[31m\nerror: FORGED${'x'.repeat(5000)}`;
  server.fault = () =>
    refusal(403, type, 'not https://u:hush@h.example/T0/hush or https://hook.example/hush');
  const said = await sentence(putio.setCallback('https://x.example/'));
  expect(said).toContain('NO\\u{1b}[31m error: FORGED');
  expect(said).toContain('https://h.example or https://hook.example');
  expect(said).not.toContain('hush');
  expect(said.length).toBeLessThan(400);
});

test('all pages of history are read, the newest first', async () => {
  const { server, putio } = await account();
  for (let n = 0; n < 150; n++) server.happened('upload', { file_id: n });
  const ids: number[] = [];
  for await (const { id } of putio.events()) ids.push(id);
  expect(ids).toEqual(Array.from({ length: 150 }, (_, n) => 150 - n));
});

test('a transfer that is not there is none', async () => {
  const { server, putio } = await account();
  server.add(7);
  expect(await putio.transfer(7)).toMatchObject({ id: 7 });
  expect(await putio.transfer(8)).toBeUndefined();
});

test.each([
  [
    refusal(401, 'invalid_grant', 'no'),
    /^unauthorized: put\.io does not know the token \(401, invalid_grant\)\. Make another at https:\/\/app\.put\.io\S+, and put it/,
  ],
  [
    refusal(401, 'invalid_scope', 'no'),
    /^forbidden: put\.io does not let this token change the account's callback \(401, invalid_scope\)\..* Another token/,
  ],
  [refusal(403, 'UNAVAILABLE_VALUE', 'no'), /^forbidden: put\.io does not let this token change/],
  [
    refusal(400, 'INVALID_CALLBACK_URL', 'bad'),
    /^invalid: put\.io does not take this callback URL \(400, INVALID_CALLBACK_URL\)\. It says "bad"\. It must be a public .* --endpoint-url/,
  ],
  [refusal(404, 'NotFound', 'no'), /^not_found: put\.io has nothing there.* putio\.apiBase/],
  [
    refusal(409, 'EXISTING', 'no'),
    /^invalid: put\.io refused to change the account's callback \(409, EXISTING\)/,
  ],
  [
    refusal(500, 'Oops', 'no'),
    /^unavailable: put\.io failed to change the account's callback \(500, Oops\).* try again in some minutes/,
  ],
  [{ status: 502, body: '<html>Bad gateway</html>' }, /^unavailable: put\.io failed to change .* \(502\)/],
  [
    { status: 200, body: '<html>Log in</html>' },
    /^unavailable: What answers at http:\S+ is not put\.io's API \(200, text\/html\)\..* proxy/,
  ],
  [{ status: 404, body: '<html>nothing</html>' }, /^unavailable: What answers at .* \(404, text\/html\)/],
  [
    { status: 302, headers: { location: 'http://127.0.0.1:1/' }, body: '' },
    /^unavailable: What answers at .* \(302/,
  ],
  [{ status: 200, body: [] }, /^unavailable: What answers at .* is not put\.io's API/],
  [{ silent: true }, /^unavailable: put\.io has not answered within 0\.5 s\./],
])('the answer %j is one sentence with a next step', async (fault, expected) => {
  const { server, putio } = await account();
  server.fault = () => fault;
  expect(await sentence(putio.setCallback('https://x.example/'))).toMatch(expected);
});

test.each([
  [{ 'retry-after': '30' }, 30],
  [{ 'x-ratelimit-reset': String(at.getTime() / 1000 + 90) }, 90],
  [{ 'x-ratelimit-reset': String(at.getTime() + 90_000) }, 90],
  [{ 'x-ratelimit-reset': '45' }, 45],
  [{ 'retry-after': 'Mon, 23 Nov 2026 10:02:00 GMT' }, 120],
  [{}, 60],
])('too often, with %j, says when it takes requests again', async (headers, seconds) => {
  const { server, putio } = await account();
  server.fault = () => ({ ...refusal(429, 'RATE_LIMIT', 'slow'), headers });
  const error = await failure(putio.callback());
  expect(error).toMatchObject({ code: 'limited', retryAfter: seconds });
  const until = new Date(at.getTime() + seconds * 1000).toISOString().slice(11, 19);
  expect(told(error)).toContain(`It takes requests again at ${until} UTC, in ${seconds} s`);
});

test('a machine that is not there, and a name that is none, are said', async () => {
  const closed = openPutio({ base: 'http://127.0.0.1:1', token });
  expect(await sentence(closed.callback())).toMatch(
    /put\.io cannot be reached at http:\/\/127\.0\.0\.1:1 \(\w+/,
  );
  const unknown = openPutio({ base: 'https://put-io.invalid', token });
  expect(await sentence(unknown.callback())).toMatch(/The name put-io\.invalid cannot be looked up/);
});

test('what put.io says in an error never shows the token, or the secret of a URL', async () => {
  const { server, putio } = await account();
  server.fault = () =>
    refusal(403, 'NO', `token ${token} may not set https://x.example/?source=a&secret=hush`);
  const said = await sentence(putio.setCallback('https://x.example/'));
  expect(said).toContain('********');
  expect(said).not.toContain('hush');
});

test('a token that no header can carry is refused without being shown', () => {
  expect(() => openPutio({ base: 'https://api.put.io', token: 'two words' })).toThrow(/spaces/);
  expect(() => openPutio({ base: 'https://api.put.io', token: 'two words' })).not.toThrow(/two words/);
});

test('a stop ends a request with its reason', async () => {
  const { server } = await account();
  server.fault = () => ({ silent: true });
  const stop = new AbortController();
  const putio = openPutio({ base: server.base, token, signal: stop.signal });
  const reason = new Error('stopped');
  setTimeout(() => stop.abort(reason), 50);
  await expect(putio.callback()).rejects.toBe(reason);
});
