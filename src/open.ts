import path from 'node:path';
import type { Config } from './config.ts';
import type { Nexus } from './nexus.ts';

/** Where the embedded store lies. */
export function storeDirectory(config: Config): string {
  return path.join(config.dataDir, 'store');
}

/** Where the transcripts lie, for people: a directory, or the endpoint. */
export function archivePlace(config: Config): string {
  return config.endpoint ?? path.join(storeDirectory(config), 'blobs', 'sessions', 'inbox');
}

/** Nexus as the configuration says: the endpoint when there is one, else the embedded store in this process. */
export async function openNexus(config: Config, signal: AbortSignal, version: string): Promise<Nexus> {
  if (config.endpoint !== undefined) {
    const { openClient } = await import('./http/client.ts');
    const { endpoint, apiKey, retry: retries } = config;
    return openClient({ endpoint, key: apiKey, retries, signal, version });
  }
  const [{ openLocalStore }, { openSessions }] = await Promise.all([
    import('./stores/local.ts'),
    import('./sessions.ts'),
  ]);
  return openSessions(await openLocalStore(storeDirectory(config)));
}
