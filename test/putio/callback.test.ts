import { expect, test } from 'vitest';
import { idsIn, idsOf, transferOf } from '../../src/transfer.ts';
import { openEndpoint } from '../http/endpoint.ts';
import { type ApiTransfer, apiTransfer, calledAs, type Shape, shapes } from './server.ts';

async function site() {
  const { app, webhooks } = await openEndpoint();
  const send = async (body: Buffer, headers: Record<string, string>, source = 'putio') => {
    const url = `/api/webhook/main?source=${source}`;
    const answer = await app.inject({ method: 'POST', url, headers, payload: body });
    return answer.statusCode;
  };
  return {
    webhooks,
    send,
    call: async (transfer: ApiTransfer, missing: string[] = [], shape: Shape = 'form') => {
      const { body, headers } = calledAs(shape, transfer, missing);
      return await send(body, headers);
    },
    /** As a look adds what it found. */
    look: async (fields: object) => {
      const ids = idsOf(transferOf(fields));
      if (ids === undefined) throw new Error('It has no id.');
      const contentType = 'application/x-www-form-urlencoded';
      const item = { agent: 'main', source: 'putio', contentType, body: Buffer.from('id=7'), ...ids };
      return (await webhooks.add(item)).status;
    },
  };
}

test.each(shapes)(
  'a callback sent as %s is the transfer that a look finds, before it or after',
  async (shape) => {
    const { call, look } = await site();
    const [one, other] = [apiTransfer(7), apiTransfer(8)];
    expect(await call(one, [], shape)).toBe(202);
    expect(await look(one)).toBe('duplicate');
    expect(await look(other)).toBe('accepted');
    expect(await call(other, [], shape)).toBe(200);
    expect(await call(other, ['finished_at'], shape)).toBe(200);
  },
);

test.each([
  [[], ['finished_at']],
  [['finished_at'], []],
])('of two callbacks, one without %j and one without %j, one is delivered', async (first, second) => {
  const { call, webhooks } = await site();
  const transfer = apiTransfer(7);
  expect(await call(transfer, first)).toBe(202);
  expect(await call(transfer, second, 'multipart')).toBe(200);
  expect((await webhooks.pending({ agents: ['main'] })).items).toHaveLength(1);
});

test('what was found by its id alone is what calls back late with its time', async () => {
  const { call, look } = await site();
  const transfer = apiTransfer(9);
  expect(await look({ id: 9, name: transfer['name'] })).toBe('accepted');
  expect(await call(transfer)).toBe(200);
});

test('a transfer that finished twice is delivered twice', async () => {
  const { call } = await site();
  expect(await call(apiTransfer(7, 7_200_000))).toBe(202);
  expect(await call(apiTransfer(7))).toBe(202);
});

test('a form of very many fields takes no longer than its length', async () => {
  const { send } = await site();
  const hostile = (bytes: number) => {
    const fields: string[] = ['id=7'];
    for (let length = 4, n = 0; length < bytes; n++) length += fields[fields.push(`a${n}=`) - 1]?.length ?? 0;
    return Buffer.from(fields.join('&'));
  };
  const took = async (body: Buffer) => {
    const began = performance.now();
    await send(body, { 'content-type': 'application/x-www-form-urlencoded' });
    return performance.now() - began;
  };
  await took(hostile(50_000));
  const short = Math.max(10, await took(hostile(100_000)));
  expect(await took(hostile(1_000_000))).toBeLessThan(short * 40);
});

test('the ids are those of the payload that the agent reads', () => {
  expect(idsIn('{"id":"7","finished_at":"2026-11-23T10:05:07"}')?.delivery).toBe('7 2026-11-23T10:05:07Z');
});
