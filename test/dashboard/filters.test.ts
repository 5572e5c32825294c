import { afterAll, beforeAll, expect, test } from 'vitest';
import { fillSample } from './sample.ts';
import { openSite, type Site } from './site.ts';

const now = new Date('2026-11-20T15:40:00Z');

let site: Site;
beforeAll(async () => {
  site = await openSite({ now: () => now, fill: (store) => fillSample(store, now) });
});
afterAll(() => site.close());

async function show(path: string): Promise<string> {
  return (await (await fetch(`${site.url}${path}`)).text()).replaceAll('&amp;', '&');
}

test('a day of usage leads to the sessions of that day that the filters leave', async () => {
  expect(await show('/usage?by=day&agent=main&trigger=cron&last=7d')).toContain(
    'href="./sessions?agent=main&trigger=cron&from=2026-11-19&to=2026-11-19"',
  );
});

test.each([
  ['/sessions?job=morning-briefing&last=30d', 'job', ['morning-briefing'], './sessions?last=30d'],
  ['/sessions?order=cost&provider=openai&page=1', 'provider', ['openai'], './sessions?order=cost'],
  ['/usage?by=day&source=none', 'source', ['none'], './usage?by=day'],
  ['/usage?by=day&agent=main&agent=research', 'agent', ['main', 'research'], './usage?by=day'],
])(
  'what %s is narrowed by and has no choice of is named, kept, and can be taken away',
  async (url, name, values, all) => {
    const page = await show(url);
    const named = values.map((value) => `<code>${value}</code> `).join('');
    expect(page).toContain(`Only ${name} ${named}<a href="${all}">All</a>`);
    for (const value of values)
      expect(page).toContain(`<input type="hidden" name="${name}" value="${value}">`);
    expect(page).not.toContain(`<select name="${name}">`);
  },
);

test('the sessions are those that every filter leaves', async () => {
  const found = (page: string) => /of ([\d,]+) sessions?</.exec(page)?.[1];
  const of = async (request: object) =>
    String((await site.usage.sessions({ ...request, tz: 'UTC', limit: 1 })).found);
  expect(found(await show('/sessions?agent=main&agent=research'))).toBe(
    await of({ agent: ['main', 'research'] }),
  );
  expect(found(await show('/sessions?provider=openai'))).toBe(await of({ provider: 'openai' }));
  expect(found(await show('/sessions?model=gpt-5-mini&model=claude-haiku-4-5'))).toBe(
    await of({ model: ['gpt-5-mini', 'claude-haiku-4-5'] }),
  );
});

test.each([
  'by=dya',
  'by=day&and=tool',
  'last=1y',
  'from=2026-02-30',
  'agent=a%20b',
  'from=2026-11-02&to=2026-11-01',
])('what makes no sense is refused in a sentence: %s', async (query) => {
  const answer = await fetch(`${site.url}/usage?${query}`);
  expect([answer.status, answer.headers.get('content-type')]).toEqual([400, 'text/html; charset=utf-8']);
  expect(await answer.text()).toMatch(/<h1>This cannot be asked<\/h1><p>[^<]+\.<\/p>/);
});
