import { expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { createServer } from '../../src/http/server.ts';
import type { Nexus } from '../../src/nexus.ts';

test('a store that refuses the endpoint’s credentials is the endpoint’s trouble, not the caller’s', async () => {
  const refused = () => Promise.reject(new NexusError('forbidden', 'The account key is wrong.'));
  const sessions: Nexus = {
    storeId: () => Promise.resolve('one'),
    stat: refused,
    append: refused,
    mark: refused,
    setMark: refused,
    read: () => expect.fail('not asked for'),
    list: () => expect.fail('not asked for'),
    close: () => Promise.resolve(),
  };
  const app = createServer({ sessions, keys: () => [], version: '0' });
  const response = await app.inject({
    url: '/api/sessions/main/x',
    method: 'HEAD',
    headers: { host: '127.0.0.1' },
  });
  expect(response.statusCode).toBe(503);
  expect(response.headers['nexus-error']).toBe('unavailable');
  await app.close();
});
