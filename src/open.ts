import { statSync } from 'node:fs';
import path from 'node:path';
import type { Config } from './config.ts';
import { openingError } from './diskerrors.ts';
import { failedWith } from './errors.ts';
import { type JobReport, openJobReports } from './jobreports.ts';
import type { Say } from './logline.ts';
import type { Mailbox } from './mailbox.ts';
import type { Nexus } from './nexus.ts';
import { known } from './secrets.ts';
import type { UsageReader } from './http/usageclient.ts';
import { openSessions } from './sessions.ts';
import { openLocalStore } from './stores/local.ts';
import type { Store } from './stores/store.ts';
import type { Usage } from './usage.ts';

/** Where the embedded store lies. */
export function storeDirectory(config: Config): string {
  return path.join(config.dataDir, 'store');
}

/** The store of the configuration, for people. */
export function storePlace({ store, ...config }: Config): string {
  if (store.kind === 'local') return path.join(config.dataDir, 'store');
  const account =
    store.account ?? /(?:^|;)AccountName=([^;]+)/.exec(known(store.connectionString) ?? '')?.[1];
  return `Azure storage account ${account ?? 'of store.connectionString'}${store.prefix === '' ? '' : `, prefix ${store.prefix}`}`;
}

/** Where the transcripts lie, for people: a directory, an account, or the endpoint. */
export function archivePlace(config: Config): string {
  if (config.endpoint !== undefined) return config.endpoint;
  if (config.store.kind === 'azure') return storePlace(config);
  return path.join(storeDirectory(config), 'blobs', 'sessions', 'inbox');
}

/** True when this process would work on a store that is not there yet. Makes nothing. */
export async function isFresh(config: Config): Promise<boolean> {
  if (config.endpoint !== undefined) return false;
  if (config.store.kind === 'azure') return await isFreshAccount(config);
  try {
    return statSync(storeDirectory(config), { throwIfNoEntry: false }) === undefined;
  } catch (error) {
    throw openingError(error, config.dataDir);
  }
}

async function isFreshAccount(config: Config): Promise<boolean> {
  const { openAzureStore } = await import('./stores/azure.ts');
  const store = await openAzureStore({
    ...config.store,
    connectionString: known(config.store.connectionString),
    onlyLook: true,
  });
  try {
    await store.id();
    return false;
  } catch (error) {
    if (failedWith(error, 'not_found')) return true;
    throw error;
  } finally {
    await store.close();
  }
}

/** The store of the configuration, or its store of another kind. */
export async function openStore(
  config: Config,
  kind: Config['store']['kind'] = config.store.kind,
): Promise<Store> {
  if (kind === 'local') return await openLocalStore(storeDirectory(config));
  const connectionString = known(config.store.connectionString);
  const { openAzureStore } = await import('./stores/azure.ts');
  return await openAzureStore({ ...config.store, connectionString });
}

export interface Patience {
  /** Told of each request to the endpoint that is tried again. */
  say?: Say;
  /** For one try at the endpoint, where the usual is too long. */
  timeoutMs?: number;
}

/** Nexus as the configuration says: the endpoint when there is one, else its store in this process. */
export async function openNexus(
  config: Config,
  signal: AbortSignal,
  version: string,
  { say, timeoutMs }: Patience = {},
): Promise<Nexus> {
  if (config.endpoint !== undefined) {
    const { openClient } = await import('./http/client.ts');
    const { endpoint, apiKey, retry: retries } = config;
    const patience = timeoutMs === undefined ? {} : { timeoutMs };
    return openClient({ endpoint, key: known(apiKey), retries, signal, version, say, ...patience });
  }
  return openSessions(await openStore(config));
}

/** Who is told how this host's jobs end. */
export interface JobTeller {
  tell(report: JobReport): Promise<void>;
  close(): Promise<void>;
}

/** The endpoint when there is one, else the store: each asked once, within the time. */
export async function openJobTeller(config: Config, version: string, timeoutMs: number): Promise<JobTeller> {
  const { endpoint, host, apiKey } = config;
  if (endpoint !== undefined) {
    const { tellEndpoint } = await import('./http/jobsclient.ts');
    const to = { endpoint, key: known(apiKey), version, timeoutMs };
    return { tell: (report) => tellEndpoint(to, host, report, Date.now()), close: () => Promise.resolve() };
  }
  const impatient = { ...config, store: { ...config.store, timeoutMs } };
  const store = await openStore(impatient);
  return { tell: (report) => openJobReports(store).put(host, report), close: () => store.close() };
}

/** The mailboxes as the configuration says: those of the endpoint when there is one, else of its store. */
export async function openMailbox(
  config: Config,
  signal: AbortSignal,
  version: string,
  { say, timeoutMs }: Patience = {},
): Promise<Mailbox> {
  if (config.endpoint !== undefined) {
    const { openMailboxClient } = await import('./http/mailboxclient.ts');
    const { endpoint, apiKey, retry: retries } = config;
    const patience = timeoutMs === undefined ? {} : { timeoutMs };
    return openMailboxClient({ endpoint, key: known(apiKey), retries, signal, version, say, ...patience });
  }
  const [store, { openWebhooks }] = await Promise.all([openStore(config), import('./webhooks.ts')]);
  return openWebhooks(store);
}

/** The usage index over the store of the configuration, which it closes with itself. */
export async function openOwnUsage(config: Config, now?: () => Date): Promise<Usage> {
  const [store, { openUsage }, { indexPath }] = await Promise.all([
    openStore(config),
    import('./usage.ts'),
    import('./usagefile.ts'),
  ]);
  try {
    const usage = await openUsage({
      store,
      file: indexPath(config.dataDir),
      prices: config.prices,
      directory: config.store.kind === 'local' ? storeDirectory(config) : undefined,
      ...(now === undefined ? {} : { now }),
    });
    return {
      ...usage,
      async close() {
        await usage.close();
        await store.close();
      },
    };
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** The usage that the endpoint of the configuration keeps. */
export async function openEndpointUsage(
  config: Config,
  endpoint: string,
  signal: AbortSignal,
  version: string,
): Promise<UsageReader> {
  const { openUsageClient } = await import('./http/usageclient.ts');
  const { apiKey, retry: retries } = config;
  return openUsageClient({ endpoint, key: known(apiKey), retries, signal, version });
}
