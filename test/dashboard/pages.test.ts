// Every page in a real browser, on transcripts that real OpenClaw releases have written.
import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { hashKey, makeKey } from '../../src/keys.ts';
import { openSessions } from '../../src/sessions.ts';
import type { Store } from '../../src/stores/store.ts';
import { openWebhooks } from '../../src/webhooks.ts';
import { type Host, makeHost } from '../jobs/host.ts';
import { browses, drawn, openBrowser, sideways, type Watched, type WatchOptions, watch } from './browser.ts';
import { openSite, type Site } from './site.ts';

const now = new Date('2026-11-23T12:00:00Z');

/** What a web page's script would do, where one got to run. */
const attacks = [
  '<script>window.pwned=1;alert(1)</script>',
  '"><img src=x onerror="window.pwned=1">',
  "'><svg onload=window.pwned=1>",
  '</pre></article><iframe srcdoc="<script>parent.pwned=1</script>">',
  '<a href="javascript:window.pwned=1" id="lure">click</a>',
  '[click](javascript:window.pwned=1) ![x](https://evil.example/pixel.png)',
  '<link rel=stylesheet href=https://evil.example/x.css><meta http-equiv=refresh content="0;url=https://evil.example">',
  '<form action=https://evil.example><input name=key autofocus></form>',
  '\u001b[2J\u001b]0;owned\u0007 \u202egpj.exe\u2066 \u0000 \ufeff',
  '{{7*7}} ${7*7} <!-- --> ]]> &lt;b&gt;',
];
const bait = attacks.join('\n');

function hostileLines(): string[] {
  const record = (id: string, message: unknown) =>
    JSON.stringify({ type: 'message', id, timestamp: '2026-11-23T10:00:00Z', message });
  return [
    JSON.stringify({ type: 'session', version: 3, id: bait, timestamp: '2026-11-23T10:00:00Z', cwd: bait }),
    record('a', { role: 'user', content: bait }),
    record('b', { role: bait, content: [{ type: bait, text: bait }, { type: 'text', text: bait }, 7, null] }),
    record('c', {
      role: 'assistant',
      provider: bait,
      model: bait,
      stopReason: bait,
      errorMessage: bait,
      content: [
        { type: 'toolCall', name: bait, arguments: { [bait]: bait } },
        { type: 'thinking', thinking: bait },
      ],
      usage: { input: 10, output: 5, cost: { total: 0.25 } },
    }),
    record('d', {
      role: 'toolResult',
      toolName: bait,
      isError: true,
      content: [
        { type: 'text', text: bait },
        { type: 'image', mimeType: bait, data: 'A'.repeat(3_000_000) },
      ],
    }),
    JSON.stringify({ type: bait, id: bait, timestamp: bait, data: bait }),
    JSON.stringify({
      type: 'custom',
      customType: bait,
      data: { deep: bait },
      timestamp: '2026-11-23T10:00:00Z',
    }),
    JSON.stringify({ type: 'compaction', summary: bait, timestamp: 'no time at all' }),
    `not json ${bait.replaceAll('\n', ' ')}`,
    `{"type":"message","deep":${'['.repeat(50_000)}${']'.repeat(50_000)}}`,
    record('e', { role: 'user', content: `long ${'x'.repeat(2_000_000)} END-OF-LONG` }),
    record('f', {
      role: 'assistant',
      provider: 'p',
      model: 'm',
      content: [{ type: 'text', text: 'the last word' }],
      usage: { input: -5, output: 'many' },
    }),
  ];
}

/** Long enough that nobody would wait for all of it. */
async function storeLong(store: Store): Promise<void> {
  const sessions = openSessions(store);
  const line = (n: number) =>
    `${JSON.stringify({ type: 'message', id: `l${n}`, timestamp: '2026-11-23T09:00:00Z', message: { role: 'user', content: `line ${n} ${'words and words '.repeat(60)}` } })}\n`;
  let offset = 0;
  let n = 0;
  while (offset < 100 * 1024 * 1024) {
    const lines: string[] = [];
    for (let k = 0; k < 8000; k++) lines.push(line(n++));
    offset = await sessions.append('main', 'long', offset, Buffer.from(lines.join('')), {
      complete: false,
      about: { host: 'box' },
    });
  }
}

async function fillHostile(store: Store): Promise<void> {
  const sessions = openSessions(store);
  const bytes = Buffer.from(`${hostileLines().join('\n')}\n`);
  await sessions.append('main', 'hostile', 0, bytes, {
    complete: true,
    about: { host: bait, sessionKey: `agent:main:${bait}`, trigger: bait, lastEventAt: bait },
  });
  const webhooks = openWebhooks(store);
  await webhooks.receive({
    agent: 'main',
    source: bait.slice(0, 190),
    contentType: bait.replaceAll(/[^\x20-\x7e]/g, ''),
    headers: { [`x-${bait}`]: bait },
    body: Buffer.from(JSON.stringify({ [bait]: bait })),
    delivery: bait,
  });
}

describe.skipIf(!browses)('in a browser', () => {
  let browser: Browser;
  let host: Host;
  let site: Site;
  let watched: Watched | undefined;

  async function open(options: WatchOptions = {}, at = site): Promise<Watched> {
    watched = await watch(browser, at.url, options);
    return watched;
  }

  beforeAll(async () => {
    browser = await openBrowser();
    host = await makeHost('sqlite-2026.9.6');
    await host.backfill({ all: true });
    site = await openSite({ over: await host.openStore(), now: () => now });
  }, 60_000);
  afterEach(async () => {
    // Whatever a test was about: nothing went wrong beside it, and nothing was asked of anybody else.
    // oxlint-disable-next-line vitest/no-standalone-expect
    expect(watched?.troubles ?? []).toEqual([]);
    await watched?.context.close();
    watched = undefined;
  });
  afterAll(async () => {
    await browser.close();
    await site.close();
    await site.store.close();
    await host.remove();
  });

  test('the overview has the sums of the ledger, by day and agent and in all', async () => {
    const { page } = await open();
    await page.goto('/');
    await drawn(page);
    const { rows, totals } = await site.usage.query({ by: ['day', 'agent'], last: '30d', tz: 'UTC' });
    const month = page.locator('.tile').nth(2);
    expect(await month.locator('strong').innerText()).toBe(`$${totals.cost?.toFixed(2)}`);
    expect(await month.innerText()).toContain(`${totals.calls} calls`);
    for (const [measure, figure] of [
      ['cost', (row: (typeof rows)[number]) => row.cost ?? 0],
      ['tokens', (row: (typeof rows)[number]) => row.total],
    ] as const) {
      const shown: [string, string, number][] = await page.evaluate(
        `[...document.querySelectorAll('figure[data-measure=${measure}] tbody tr')].flatMap((row) =>
          [...row.querySelectorAll('[data-value]')].map((cell, nth) => [
            row.querySelector('[data-label]').dataset.label,
            document.querySelectorAll('figure[data-measure=${measure}] [data-series]')[nth].dataset.series,
            Number(cell.dataset.value)])).filter(([, , value]) => value > 0)`,
      );
      const sorted = (list: [string, string, number][]) =>
        list.toSorted(([a, b], [c, d]) => (`${a} ${b}` < `${c} ${d}` ? -1 : 1));
      expect(sorted(shown)).toEqual(sorted(rows.map((row) => [row.day ?? '', row.agent ?? '', figure(row)])));
    }
    // What is drawn is what the table says.
    expect(await page.locator('figure.chart canvas').count()).toBe(2);
  });

  test('usage by any dimension has the rows of the ledger, and filters are in the URL', async () => {
    const { page } = await open();
    for (const by of ['agent', 'model', 'trigger', 'session', 'week', 'month', 'job'] as const) {
      await page.goto(`/usage?by=${by}&last=all`);
      const { rows, totals } = await site.usage.query({ by: [by], tz: 'UTC' });
      const shown = await page
        .locator('table.sums tbody tr')
        .evaluateAll((list) =>
          list.map((row) => [...Object(row).cells].map((cell) => String(Object(cell).innerText).trim())),
        );
      const money = (cost: number | null) =>
        cost === null ? 'unpriced' : cost === 0 ? '$0.00' : `$${cost.toFixed(cost < 1 ? 4 : 2)}`;
      expect(shown.map((cells) => [cells[0], cells[2], cells.at(-1)].join(' ')).sort()).toEqual(
        rows.map((row) => [row[by], money(row.cost), row.calls].join(' ')).sort(),
      );
      const total = await page.locator('table.sums tfoot').innerText();
      expect(total).toContain(money(totals.cost));
    }
    const agent = (await site.usage.query({ by: ['agent'] })).rows.at(-1)?.agent ?? '';
    await page.goto('/usage');
    await page.selectOption('select[name=by]', 'model');
    await page.selectOption('select[name=agent]', agent);
    await page.selectOption('select[name=last]', '7d');
    await page.click('form.filters button');
    const url = new URL(page.url());
    expect(Object.fromEntries(url.searchParams)).toMatchObject({
      by: 'model',
      agent,
      last: '7d',
    });
    const { totals } = await site.usage.query({ agent: [agent], last: '7d', tz: 'UTC' });
    expect(await page.locator('table.sums tfoot').innerText()).toContain(`${totals.calls}`);
    expect(await page.inputValue('select[name=agent]')).toBe(agent);
  });

  test('days that end today are shown in place of dates when they are chosen', async () => {
    const { page } = await open();
    await page.goto('/');
    await page.click('.tile >> nth=0');
    expect(await page.inputValue('input[name=from]')).toBe('2026-11-23');
    await page.selectOption('select[name=last]', '90d');
    await page.click('form.filters button');
    expect(await page.inputValue('select[name=last]')).toBe('90d');
    const { totals } = await site.usage.query({ last: '90d', tz: 'UTC' });
    expect(await page.locator('table.sums tfoot').innerText()).toContain(`${totals.calls}`);
  });

  test('a day of nothing says what to do instead of showing an empty table', async () => {
    const { page } = await open();
    await page.goto('/usage?from=2020-01-01&to=2020-01-02');
    expect(await page.locator('main').innerText()).toContain('No calls of a model in this time.');
    await page.goto('/sessions?text=nothing-has-this-name');
    expect(await page.locator('main').innerText()).toContain('No session fits.');
  });

  test('sessions are searched, sorted and opened, each with its cost', async () => {
    const { page } = await open();
    await page.goto('/sessions');
    await page.fill('input[name=text]', 'CRON');
    await page.click('form.filters button');
    const { sessions, found } = await site.usage.sessions({ text: 'cron', order: 'start', tz: 'UTC' });
    expect(found).toBeGreaterThan(1);
    expect(await page.locator('table.list tbody tr').count()).toBe(found);
    await page.click('thead a:has-text("Cost")');
    const costs = await page.locator('table.list tbody tr td:last-child').allInnerTexts();
    const numbers = costs.map((text) => Number(text.replace(/[^\d.]/g, '')));
    expect(numbers).toEqual(numbers.toSorted((one, other) => other - one));
    const dearest = sessions.toSorted((one, other) => (other.cost ?? 0) - (one.cost ?? 0))[0];
    await page.click('table.list tbody a');
    expect(await page.locator('dl.facts').innerText()).toContain(`$${dearest?.cost?.toFixed(4)}`);
    expect(await page.locator('.record.assistant').count()).toBeGreaterThan(0);
  });

  test('the costs of the calls in a replay add up to that of the session', async () => {
    const { page } = await open();
    const { sessions } = await site.usage.sessions({ order: 'calls', tz: 'UTC', limit: 1 });
    const [session] = sessions;
    await page.goto(`/sessions/${session?.agent}/${session?.transcripts.at(-1)?.transcript}`);
    const costs = await page.locator('.call b').allInnerTexts();
    expect(costs).toHaveLength(session?.calls ?? 0);
    expect(costs.reduce((sum, text) => sum + Number(text.slice(1)), 0)).toBeCloseTo(session?.cost ?? 0, 3);
  });

  test('without a script every figure is there', async () => {
    const { page } = await open({ script: false });
    await page.goto('/');
    expect(await page.locator('figure[data-measure=cost] tbody tr').first().isVisible()).toBe(true);
    await page.goto('/usage?by=model');
    expect(await page.locator('table.sums tfoot').isVisible()).toBe(true);
  });

  test('dark where the reader has it dark, the charts too', async () => {
    const { page } = await open({ dark: true });
    await page.goto('/');
    await drawn(page);
    const brightness =
      '(() => { const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number); return (r + g + b) / 3; })()';
    const pixel = "document.querySelector('canvas').toDataURL()";
    expect(await page.evaluate(brightness)).toBeLessThan(40);
    const dark = await page.evaluate(pixel);
    await page.emulateMedia({ colorScheme: 'light' });
    expect(await page.evaluate(brightness)).toBeGreaterThan(220);
    await expect.poll(() => page.evaluate(pixel)).not.toBe(dark);
  });

  test('a reader signs in by the form, sees whose key it is, and signs out', async () => {
    const key = makeKey();
    const locked = await openSite({
      keys: [{ name: 'reader', hash: hashKey(key), agents: '*', scopes: ['read'] }],
      now: () => now,
    });
    try {
      const { page, context, picture } = await open(
        { expected: /status of 401|Failed to load resource/ },
        locked,
      );
      await page.goto('/sessions?text=x');
      await page.fill('#key', 'nxk_wrong');
      await page.click('button.main');
      expect(await page.locator('[role=alert]').innerText()).toContain('This key is not known here.');
      await picture('sign-in');
      await page.fill('#key', ` ${key} `);
      await page.click('button.main');
      expect(new URL(page.url()).pathname + new URL(page.url()).search).toBe('/sessions?text=x');
      expect(await page.locator('.who').innerText()).toContain('reader');
      expect(await page.evaluate('document.cookie')).toBe('');
      expect(await context.cookies()).toMatchObject([{ name: 'nexus', httpOnly: true, sameSite: 'Strict' }]);
      locked.keys.length = 0;
      locked.keys.push({ name: 'other', hash: hashKey(makeKey()), agents: '*', scopes: ['read'] });
      await page.goto('/');
      expect(await page.locator('h1').innerText()).toBe('Sign in');
      locked.keys.push({ name: 'reader', hash: hashKey(key), agents: '*', scopes: ['read'] });
      await page.goto('/');
      await page.click('.who button');
      await page.goto('/usage');
      expect(await page.locator('h1').innerText()).toBe('Sign in');
    } finally {
      await locked.close();
    }
  });

  test('an empty archive says on every page what to do next', async () => {
    const fresh = await openSite({ now: () => now });
    try {
      const { page } = await open({ width: 360 }, fresh);
      const wanted = {
        '/': 'nexus backfill',
        '/usage': 'No calls of a model',
        '/sessions': 'nexus backfill',
        '/webhooks': 'nexus webhooks url',
      };
      for (const [path, text] of Object.entries(wanted)) {
        await page.goto(path);
        expect(await page.locator('main').innerText()).toContain(text);
        expect(await sideways(page)).toBe(0);
      }
    } finally {
      await fresh.close();
    }
  });

  describe('with hostile transcripts', () => {
    let bad: Site;
    beforeAll(async () => {
      bad = await openSite({
        now: () => now,
        fill: async (store) => {
          await fillHostile(store);
          await storeLong(store);
        },
      });
    }, 120_000);
    afterAll(() => bad.close());

    test.each([1280, 360])(
      'nothing of a transcript or a webhook runs, loads, leads away or bends the page, at %i px',
      async (width) => {
        const { page, picture } = await open({ width }, bad);
        const paths = [
          '/',
          '/?by=model',
          '/usage?by=model&and=provider&last=all',
          '/usage?by=host&and=trigger&last=all',
          '/sessions',
          '/webhooks',
        ];
        for (const n of [1, 2, 23, 24, 25, 99]) paths.push(`/sessions/main/hostile?page=${n}`);
        let items = 0;
        for await (const { id } of openWebhooks(bad.store).list()) {
          paths.push(`/webhooks/${id}`);
          items++;
        }
        expect(items).toBe(1);
        for (const path of paths) {
          await page.goto(path);
          await drawn(page);
          expect(
            await page.evaluate(
              "[typeof window.pwned, document.querySelectorAll('main script, main iframe, main object, main link, main meta, main [onerror], main [onload], #lure, main img').length]",
            ),
            path,
          ).toEqual(['undefined', 0]);
          const links: string[] = await page.evaluate(
            "[...document.querySelectorAll('a, form, area')].map((one) => one.href || one.action)",
          );
          expect(
            links.filter((link) => !link.startsWith(`${bad.url}/`)),
            path,
          ).toEqual([]);
          const text = await page.locator('body').innerText();
          // oxlint-disable-next-line no-control-regex
          expect(text, path).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u202a-\u202e\u2066-\u2069\ufeff]/);
          expect(await sideways(page), path).toBe(0);
        }
        await page.goto('/sessions/main/hostile');
        await picture(`hostile-${width}`);
      },
      60_000,
    );

    test('of what is long the beginning is shown and the size said, and every record is named for what it is', async () => {
      const { page } = await open({}, bad);
      await page.goto('/sessions/main/hostile');
      let seen = '';
      let pages = 0;
      for (;;) {
        seen += await page.locator('.replay').innerText();
        pages++;
        const next = page.locator('nav.pages a[rel=next]').first();
        if ((await next.count()) === 0) break;
        await next.click();
      }
      // Those that lie within one record are passed over.
      expect(pages).toBeLessThan(6);
      for (const text of [
        'User',
        '<script>window.pwned=1;alert(1)</script>',
        'Unknown role: <script>',
        'Part of an unknown kind: <script>',
        'Unknown record: <script>',
        '2.1 MiB: not shown.',
        '… cut here; 1.9 MiB in all',
        'This line is no JSON object that can be shown',
        'a token count or cost that is negative, no whole number or beyond belief, taken for 0',
        'the last word',
      ])
        expect(seen).toContain(text);
      expect(seen).not.toContain('END-OF-LONG');
    });

    test('a transcript of 100 MB opens at any page in less than a second', async () => {
      const { page } = await open({}, bad);
      const times: number[] = [];
      for (const path of ['', '?page=400', '?page=999999']) {
        const began = performance.now();
        const answer = await fetch(`${bad.url}/sessions/main/long${path}`);
        await answer.text();
        times.push(performance.now() - began);
        await page.goto(`/sessions/main/long${path}`);
        expect(await page.locator('.record.user').count()).toBeGreaterThan(10);
      }
      expect(Math.max(...times)).toBeLessThan(1000);
      expect(await page.locator('nav.pages').first().innerText()).toMatch(/Page (\d+) of \1,/);
    });
  });
});
