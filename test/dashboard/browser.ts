import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';

const executablePath = '/usr/bin/chromium';

/** A browser is at hand, as it is in CI. */
export const browses = existsSync(executablePath) || process.env['CI'] !== undefined;

const pictures = path.join(import.meta.dirname, 'screenshots');

export async function openBrowser(): Promise<Browser> {
  return await chromium.launch({
    executablePath,
    // Root's own browser may not sandbox itself; it sees these pages alone.
    args: process.geteuid?.() === 0 ? ['--no-sandbox'] : [],
  });
}

/** A page, and all that went wrong on it. */
export interface Watched {
  page: Page;
  context: BrowserContext;
  /** Errors of scripts, of the console, what the policy forbade, and requests to anywhere else. Must stay empty. */
  troubles: string[];
  /** Keeps a picture of the page's upper part, as output of the build; answers its bytes. */
  picture: (name: string, options?: { upper?: number }) => Promise<number>;
}

export interface WatchOptions {
  width?: number;
  height?: number;
  dark?: boolean;
  script?: boolean;
  /** Answers that are meant to fail, as a browser tells the console of each. */
  expected?: RegExp;
  scale?: number;
}

/** A fresh browser profile whose page may speak to one origin only. */
export async function watch(browser: Browser, origin: string, options: WatchOptions = {}): Promise<Watched> {
  const { width = 1280, height = 900, dark = false, script = true, expected, scale = 1 } = options;
  const context = await browser.newContext({
    baseURL: origin,
    viewport: { width, height },
    deviceScaleFactor: scale,
    colorScheme: dark ? 'dark' : 'light',
    javaScriptEnabled: script,
    reducedMotion: 'reduce',
    timezoneId: 'UTC',
  });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const troubles: string[] = [];
  page.on('pageerror', (error) => troubles.push(`script: ${error.message}`));
  page.on('console', (message) => {
    if (message.type() !== 'error' && message.type() !== 'warning') return;
    if (expected?.test(message.text()) !== true) troubles.push(`console: ${message.text()}`);
  });
  page.on('dialog', (dialog) => {
    troubles.push(`dialog: ${dialog.message()}`);
    dialog.dismiss().catch((error: unknown) => troubles.push(String(error)));
  });
  await context.route('**/*', async (route) => {
    const url = route.request().url();
    if (new URL(url).origin === origin) return await route.continue();
    troubles.push(`request: ${url.slice(0, 200)}`);
    return await route.abort();
  });
  return {
    page,
    context,
    troubles,
    async picture(name, { upper = 1600 } = {}) {
      await mkdir(pictures, { recursive: true });
      const height = Math.min(upper, Number(await page.evaluate('document.documentElement.scrollHeight')));
      const bytes = await page.screenshot({
        path: path.join(pictures, `${name}.png`),
        fullPage: true,
        clip: { x: 0, y: 0, width, height },
      });
      return bytes.length;
    },
  };
}

/** Until every chart of the page is drawn. */
export async function drawn(page: Page): Promise<void> {
  await page.waitForFunction("document.querySelectorAll('figure.chart:not([data-drawn])').length === 0");
}

/** How tables of the page begin of which something is out of sight; those of the charts' figures are as wide as need be. */
export async function cutTables(page: Page): Promise<string[]> {
  return await page.evaluate(
    "[...document.querySelectorAll('main table:not(.figures)')].filter((table) => table.parentElement.scrollWidth > table.parentElement.clientWidth).map((table) => table.innerText.slice(0, 60))",
  );
}

/** How far the page can be moved to the side, in pixels. */
export async function sideways(page: Page): Promise<number> {
  return await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth');
}
