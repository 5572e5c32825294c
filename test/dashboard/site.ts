import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { serve } from '../../src/http/listen.ts';
import type { Key } from '../../src/keys.ts';
import { openSignIns } from '../../src/signins.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import type { Store } from '../../src/stores/store.ts';
import { openUsage, type Usage } from '../../src/usage.ts';
import { nounsOver } from '../http/nouns.ts';

/** A dashboard that is served over a store in a temporary directory. */
export interface Site {
  url: string;
  store: Store;
  usage: Usage;
  /** Who may sign in; what is put in or taken out holds from the next request on. */
  keys: Key[];
  close: () => Promise<void>;
}

export interface SiteOptions {
  keys?: Key[];
  fill?: (store: Store) => Promise<void>;
  now?: () => Date;
  /** Serves this store, and leaves it open at the end. */
  over?: Store;
}

export async function openSite({ keys = [], fill, now, over }: SiteOptions = {}): Promise<Site> {
  const root = await mkdtemp(path.join(tmpdir(), 'nexus-site-'));
  const store = over ?? (await openLocalStore(path.join(root, 'store')));
  await fill?.(store);
  const usage = await openUsage({
    store,
    file: path.join(root, 'usage', 'index.sqlite'),
    timeZone: 'UTC',
    ...(now === undefined ? {} : { now }),
  });
  await usage.catchUp();
  const stopping = new AbortController();
  const serving = await serve({
    ...nounsOver(store),
    host: '127.0.0.1',
    port: 0,
    keys: () => keys,
    version: '0.1.0',
    signal: stopping.signal,
    usage,
    dashboard: { signIns: openSignIns(store, now), timeZone: 'UTC' },
    drainMs: 500,
    ...(now === undefined ? {} : { now }),
  });
  return {
    url: serving.url,
    store,
    usage,
    keys,
    async close() {
      stopping.abort();
      await serving.closed;
      await usage.close();
      if (over === undefined) await store.close();
      await rm(root, { recursive: true, force: true });
    },
  };
}
