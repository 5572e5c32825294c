import { ask, type Asked } from './asked.ts';
import { credential, encoded } from './bases.ts';
import { judge } from './judge.ts';
import { bomb, nastyText } from './nasty.ts';
import type { Notes } from './notes.ts';
import type { Stand } from './stand.ts';

/** Bodies that are dear: few, and each sent where bodies are decoded or parsed. */
function heavyRequests(stand: Stand): Asked[] {
  const key = credential(stand, undefined);
  const webhook = '/api/webhook/alpha?source=';
  const patch = { method: 'PATCH', url: `/api/sessions/alpha/heavy` };
  const upload: Asked['headers'] = [
    ['upload-offset', '0'],
    ['upload-complete', '?0'],
    ['content-type', 'application/partial-upload'],
  ];
  const post = (source: string, type: string, one: Uint8Array, ...more: Asked['headers']): Asked => ({
    method: 'POST',
    url: webhook + source,
    headers: [...key, ['content-type', type], ...more],
    body: one,
  });
  const flat = Buffer.from(`[${'[],'.repeat(8_000_000)}0]`);
  const deep = (n: number, open: string, close: string): Buffer =>
    Buffer.from(open.repeat(n) + close.repeat(n));
  const form = Buffer.from(`${'a[b][c]=1&'.repeat(100_000)}a=1`);
  const parts = Buffer.from(
    `${'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'.repeat(30_000)}--b--\r\n`,
  );
  return [
    ...(['gzip', 'zstd'] as const).flatMap((coding) => {
      const one = bomb(coding, 200);
      const field: [string, string] = ['content-encoding', coding];
      return [
        { ...patch, headers: [...key, ...upload, field], body: one },
        post('plain', 'application/json', one, field),
        post('putio', 'application/x-www-form-urlencoded', one, field),
      ];
    }),
    ...['deep', 'putio'].flatMap((source) => [
      post(source, 'application/json', deep(1_000_000, '[', ']')),
      post(source, 'application/json', deep(200_000, '{"a":', '}')),
      post(source, 'application/json', deep(1_000_000, '[', '')),
    ]),
    post('plain', 'application/json', flat),
    post('deep', 'application/json', deep(12_000_000, '[', ']')),
    post('plain', 'application/x-www-form-urlencoded', form),
    post('plain', 'multipart/form-data; boundary=b', parts),
    post('plain', 'multipart/form-data; boundary=b', Buffer.from('--b\r\n'.repeat(500_000))),
    post('plain', 'text/plain', Buffer.alloc(25 * 1024 * 1024, 0xff)),
    {
      method: 'DELETE',
      url: '/api/webhook/items',
      headers: [...key, ['content-type', 'application/json']],
      body: deep(500_000, '[', ']'),
    },
    {
      method: 'PUT',
      url: '/api/prices/alpha/here',
      headers: [...key, ['content-type', 'application/json']],
      body: deep(500_000, '[', ']'),
    },
    {
      method: 'POST',
      url: '/api/sessions',
      headers: [...key, ['content-type', 'application/json']],
      body: deep(30_000_000, '[', ']'),
    },
    { method: 'GET', url: `/api/usage?${'by=day&'.repeat(900)}`, headers: key },
    { method: 'GET', url: `/api/usage?agent=${Array<string>(900).fill('alpha').join(',')}`, headers: key },
    ...nastyText.map((one): Asked => ({ method: 'GET', url: `/${encoded(one)}`, headers: key })),
  ];
}

export async function sendHeavy(stand: Stand, notes: Notes): Promise<void> {
  for (const asked of heavyRequests(stand)) {
    const answer = await ask(stand.door, asked);
    judge(stand, notes, asked, answer);
    notes.count('bombs, deep and long requests');
  }
}
