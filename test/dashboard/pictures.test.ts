// Pictures of every page in both colours and on a phone, to be looked at: `screenshots/` beside this file.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Browser } from 'playwright-core';
import { browses, cutTables, drawn, openBrowser, sideways, watch } from './browser.ts';
import { fillSample } from './sample.ts';
import { openSite, type Site } from './site.ts';

const now = new Date('2026-11-20T15:40:00Z');

describe.skipIf(!browses)('in a browser', () => {
  let browser: Browser;
  let site: Site;
  beforeAll(async () => {
    browser = await openBrowser();
    site = await openSite({ fill: (store) => fillSample(store, now), now: () => now });
  }, 60_000);
  afterAll(async () => {
    await browser.close();
    await site.close();
  });

  const pages: [name: string, path: string][] = [
    ['overview', '/'],
    ['overview-models', '/?by=model'],
    ['usage', '/usage?by=day&and=agent'],
    ['usage-models', '/usage?by=model&last=90d'],
    ['usage-two', '/usage?by=model&and=agent'],
    ['sessions', '/sessions'],
    ['session', ''],
    ['webhooks', '/webhooks'],
    ['webhooks-history', '/webhooks?state=history'],
    ['webhook', ''],
  ];
  const looks = [
    { name: 'light', width: 1280, dark: false },
    { name: 'dark', width: 1280, dark: true },
    { name: 'phone', width: 360, dark: false },
  ];

  test.each(looks)(
    'every page fits its $name view, and nothing on it fails',
    async ({ name, width, dark }) => {
      const { page, context, troubles, picture } = await watch(browser, site.url, {
        width,
        height: width === 360 ? 740 : 900,
        dark,
      });
      for (const [title, path] of pages) {
        if (title === 'session') {
          await page.goto('/sessions?order=cost');
          await page.click('table.list tbody a');
        } else if (title === 'webhook') {
          await page.goto('/webhooks?state=history');
          await page.click('table.list tbody a');
        } else await page.goto(path);
        await drawn(page);
        await picture(`${title}-${name}`);
        expect(await sideways(page), `${title} at ${width} px`).toBe(0);
        expect(await cutTables(page), `${title} at ${width} px`).toEqual([]);
      }
      expect(troubles).toEqual([]);
      await context.close();
    },
    60_000,
  );

  test('the picture in README is of the overview as it is', async () => {
    const { page, context, troubles, picture } = await watch(browser, site.url, {
      width: 1200,
      height: 700,
    });
    await page.goto('/');
    await drawn(page);
    const bytes = await picture('readme', { upper: 700 });
    expect(bytes).toBeLessThan(150_000);
    expect(troubles).toEqual([]);
    await context.close();
  });
});
