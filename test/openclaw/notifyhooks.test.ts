import { createServer } from 'node:http';
import { describe, expect, test } from 'vitest';
import { tellAgent } from '../../src/openclaw/notify.ts';
import type { Outcome, TellRequest } from '../../src/openclaw/outcome.ts';
import { type Answer, completed, gateway, says, token } from './gateway.ts';

function tell(url: string, more: Partial<TellRequest> = {}, bearer = token): Promise<Outcome> {
  return tellAgent(
    { by: 'hooks', url, token: bearer },
    {
      agent: 'main',
      batch: 'b-1',
      attempt: 1,
      message: 'hello',
      waitSeconds: 5,
      signal: new AbortController().signal,
      ...more,
    },
  );
}

test('the request is what OpenClaw documents, and announces nothing', async () => {
  const { url, seen } = await gateway(completed({ status: 'ok' }));
  await tell(url);
  expect(seen).toMatchObject([
    {
      method: 'POST',
      url: '/hooks/agent',
      headers: {
        authorization: `Bearer ${token}`,
        'idempotency-key': 'b-1',
        'content-type': 'application/json',
      },
    },
  ]);
  expect(seen[0]?.body).toEqual({
    message: 'hello',
    name: 'nexus',
    agentId: 'main',
    deliver: false,
    waitForCompletion: true,
  });
});

test('a repeat has a key of its own', async () => {
  const { url, seen } = await gateway(completed({ status: 'ok' }));
  await tell(url, { attempt: 3 });
  expect(seen[0]?.headers['idempotency-key']).toBe('b-1.r3');
});

test('without a wait completion is not asked for, nor believed to have come', async () => {
  const { url, seen } = await gateway(says(200, { ok: true, runId: 'run-1' }));
  expect(await tell(url, { waitSeconds: 0 })).toEqual({ state: 'admitted', reference: 'run-1' });
  expect(seen[0]?.body).not.toHaveProperty('waitForCompletion');
});

describe('an answer', () => {
  const table: [what: string, answer: Answer, outcome: object][] = [
    ['of a run that is complete is done', completed({ status: 'ok', delivered: false }), { state: 'done' }],
    [
      'of a run whose model failed is not done, and was taken',
      completed({ status: 'error', replyDisposition: 'empty' }),
      { state: 'failed', refused: false },
    ],
    [
      'of a run that was skipped is not done',
      completed({ status: 'skipped' }),
      { state: 'failed', refused: false },
    ],
    [
      'of a release that does not wait is admitted',
      says(200, { ok: true, runId: 'run-1' }),
      { state: 'admitted', reference: 'run-1' },
    ],
    ['202 of 2026.2 is admitted', says(202, { ok: true, runId: 'run-1' }), { state: 'admitted' }],
    [
      'that names an unknown agent is refused with the reason',
      says(400, { ok: false, error: 'unknown agentId "main"' }),
      {
        state: 'failed',
        refused: true,
        reason: 'OpenClaw refused the message (400): unknown agentId "main".',
      },
    ],
    ['404 is refused', says(404, 'Not Found'), { state: 'failed', refused: true }],
    [
      '409 is refused',
      says(409, { ok: false, error: 'hook configuration changed' }),
      { state: 'failed', refused: true },
    ],
    [
      '413 is refused',
      says(413, { ok: false, error: 'payload too large' }),
      { state: 'failed', refused: true },
    ],
    ['429 of OpenClaw itself is refused', says(429, 'Too Many Requests'), { state: 'failed', refused: true }],
    ['429 of a proxy is not known to be refused', says(429, '<html>'), { state: 'failed', refused: false }],
    ['408 of a proxy is not known to be refused', says(408, '<html>'), { state: 'failed', refused: false }],
    [
      '503 of OpenClaw itself is refused',
      says(503, { ok: false, error: 'busy' }),
      { state: 'failed', refused: true },
    ],
    ['502 of a proxy is not known to be refused', says(502, '<html>'), { state: 'failed', refused: false }],
    ['504 of a proxy is not known to be refused', says(504, '<html>'), { state: 'failed', refused: false }],
    [
      '200 of something else is not known to be refused',
      says(200, '<html>hello</html>'),
      { state: 'failed', refused: false },
    ],
    [
      'that breaks off is not known to be refused',
      (response) => response.socket?.destroy(),
      { state: 'failed', refused: false },
    ],
  ];
  test.each(table)('%s', async (_, answer, outcome) => {
    const { url } = await gateway(answer);
    expect(await tell(url)).toMatchObject(outcome);
  });

  test('that leads elsewhere is refused, and the token not taken there', async () => {
    const elsewhere = await gateway(completed({ status: 'ok' }));
    const { url } = await gateway((response) =>
      response.writeHead(307, { location: `${elsewhere.url}/agent` }).end(),
    );
    expect(await tell(url)).toMatchObject({ state: 'failed', refused: true });
    expect(elsewhere.seen).toEqual([]);
  });

  test('that speaks in lines and colours is one line of a sentence', async () => {
    const { url } = await gateway(says(400, { ok: false, error: 'a\nb\u001b[31m' }));
    const outcome = await tell(url);
    expect(outcome).toHaveProperty('reason', 'OpenClaw refused the message (400): a b [31m.');
  });
});

test('a wrong token is refused, with what to set and without the token', async () => {
  const { url } = await gateway(completed({ status: 'ok' }));
  const outcome = await tell(url, {}, 'wrong-token');
  expect(outcome).toMatchObject({ state: 'failed', refused: true });
  expect(JSON.stringify(outcome)).toContain('notify.hooksToken');
  expect(JSON.stringify(outcome)).not.toContain('wrong-token');
});

test('a gateway that is not there is refused', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  expect(await tell(`http://127.0.0.1:${address.port}/hooks`)).toMatchObject({
    state: 'failed',
    refused: true,
    reason: expect.stringContaining('ECONNREFUSED'),
  });
});

test('a wait that is longer than one request may last joins the same run again', async () => {
  const { url, seen } = await gateway((response, one, number) => {
    if (number === 3) completed({ status: 'ok' })(response, one, number);
  });
  expect(await tell(url, { requestMs: 100 })).toEqual({ state: 'done' });
  expect(
    new Set(seen.map(({ headers, body }) => JSON.stringify([headers['idempotency-key'], body]))).size,
  ).toBe(1);
});

test('who is interrupted does not know', async () => {
  const stop = new AbortController();
  const { url } = await gateway(() => stop.abort());
  expect(await tell(url, { signal: stop.signal })).toMatchObject({ state: 'failed', refused: false });
});

test('nothing is sent after an interruption', async () => {
  const { url, seen } = await gateway(completed({ status: 'ok' }));
  expect(await tell(url, { signal: AbortSignal.abort() })).toMatchObject({ state: 'failed', refused: true });
  expect(seen).toEqual([]);
});
