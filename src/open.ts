import { statSync } from 'node:fs';
import path from 'node:path';
import type { Config } from './config.ts';
import { openingError } from './diskerrors.ts';
import type { Nexus } from './nexus.ts';
import type { Store } from './stores/store.ts';

/** Where the embedded store lies. */
export function storeDirectory(config: Config): string {
  return path.join(config.dataDir, 'store');
}

/** The store of the configuration, for people. */
export function storePlace({ store, ...config }: Config): string {
  if (store.kind === 'local') return path.join(config.dataDir, 'store');
  const account = store.account ?? /(?:^|;)AccountName=([^;]+)/.exec(store.connectionString ?? '')?.[1];
  return `Azure storage account ${account ?? 'of store.connectionString'}${store.prefix === '' ? '' : `, prefix ${store.prefix}`}`;
}

/** Where the transcripts lie, for people: a directory, an account, or the endpoint. */
export function archivePlace(config: Config): string {
  if (config.endpoint !== undefined) return config.endpoint;
  if (config.store.kind === 'azure') return storePlace(config);
  return path.join(storeDirectory(config), 'blobs', 'sessions', 'inbox');
}

/** True when this process would work on an embedded store that is not there yet. */
export function isFresh(config: Config): boolean {
  if (config.endpoint !== undefined || config.store.kind !== 'local') return false;
  try {
    return statSync(storeDirectory(config), { throwIfNoEntry: false }) === undefined;
  } catch (error) {
    throw openingError(error, config.dataDir);
  }
}

/** The store of the configuration, or its store of another kind. */
export async function openStore(
  config: Config,
  kind: Config['store']['kind'] = config.store.kind,
): Promise<Store> {
  if (kind === 'local')
    return await (await import('./stores/local.ts')).openLocalStore(storeDirectory(config));
  return await (await import('./stores/azure.ts')).openAzureStore(config.store);
}

/** Nexus as the configuration says: the endpoint when there is one, else its store in this process. */
export async function openNexus(config: Config, signal: AbortSignal, version: string): Promise<Nexus> {
  if (config.endpoint !== undefined) {
    const { openClient } = await import('./http/client.ts');
    const { endpoint, apiKey, retry: retries } = config;
    return openClient({ endpoint, key: apiKey, retries, signal, version });
  }
  const [store, { openSessions }] = await Promise.all([openStore(config), import('./sessions.ts')]);
  return openSessions(store);
}
