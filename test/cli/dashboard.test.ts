import { expect, test } from 'vitest';
import { newMachine } from './nexus.ts';
import { newOpenClawMachine } from './openclaw.ts';

test('the built binary serves the dashboard over what a backfill has stored, in one file each of style and script', async () => {
  const machine = await newOpenClawMachine('files-2026.7.35');
  expect((await machine.nexus(['backfill'])).status).toBe(0);
  const { shows } = machine.start(['serve', '--port', '0']);
  const [, url = ''] = await shows(/Listening on (http:\/\/127\.0\.0\.1:\d+)/);
  const show = async () => (await fetch(`${url}/usage?by=agent&last=all`)).text();
  // What is not read yet is in no sum, and says so.
  await expect.poll(show, { timeout: 10_000 }).toMatch(/Total of 3 rows[^]*\$0\.\d{4}/);
  const page = await show();
  const assets = [...page.matchAll(/(?:src|href)="\.\/(assets\/[^"]+)"/g)].map(([, name = '']) => name);
  expect(new Set(assets).size).toBe(3);
  for (const name of assets) {
    const answer = await fetch(`${url}/${name}`);
    expect([answer.status, (await answer.arrayBuffer()).byteLength > 100]).toEqual([200, true]);
  }
});

test('a key that is added lets its bearer sign in, and one that is removed locks out at once', async () => {
  const machine = await newMachine();
  const added = await machine.json(['keys', 'add', 'eyes', '--scopes', 'read']);
  const key = String(added.answer['key']);
  const { shows } = machine.start(['serve', '--port', '0']);
  const [, url = ''] = await shows(/Listening on (http:\/\/127\.0\.0\.1:\d+)/);
  const signedIn = await fetch(`${url}/sign-in`, {
    method: 'POST',
    redirect: 'manual',
    headers: { origin: url },
    body: new URLSearchParams({ key }),
  });
  const cookie = signedIn.headers.get('set-cookie')?.split(';')[0] ?? '';
  const look = async () => (await fetch(url, { headers: { cookie }, redirect: 'manual' })).status;
  expect(await look()).toBe(200);
  expect((await machine.nexus(['keys', 'add', 'other', '--scopes', 'read'])).status).toBe(0);
  expect((await machine.nexus(['keys', 'remove', 'eyes'])).status).toBe(0);
  await expect.poll(look, { timeout: 5000 }).toBe(303);
});
