import { afterAll, beforeAll, expect, test } from 'vitest';
import { openSessions } from '../../src/sessions.ts';
import type { Store } from '../../src/stores/store.ts';
import { openSite, type Site } from './site.ts';

let site: Site;
beforeAll(async () => {
  site = await openSite({ fill });
});
afterAll(() => site.close());

async function fill(store: Store): Promise<void> {
  const sessions = openSessions(store);
  const bytes = Buffer.from('7\n'.repeat(60_000));
  await sessions.append('main', 'short', 0, bytes, { complete: true, about: { host: 'box' } });
}

async function show(path: string): Promise<string> {
  return await (await fetch(`${site.url}${path}`)).text();
}

test('of a page of very many very short lines as many are shown as a browser can, and the others are counted', async () => {
  const page = await show('/sessions/main/short');
  const [, left = ''] = />([\d,]+) more lines of this page are too many to be shown\./.exec(page) ?? [];
  const shown = page.match(/<article/g)?.length ?? 0;
  expect(shown).toBe(2000);
  expect(shown + Number(left.replace(',', ''))).toBe(60_000);
});

test('a session that has called no model is found among the others', async () => {
  expect(await show('/sessions?text=SHORT')).toContain('href="./sessions/main/short"');
  expect(await show('/sessions?model=m')).toContain('No session fits.');
});
