import { stat } from 'node:fs/promises';
import { loadConfig } from '../config.ts';
import type { Context } from '../context.ts';
import { describe, NexusError } from '../errors.ts';
import type { Key } from '../keys.ts';
import { serve as listen } from '../http/listen.ts';
import { shortLines } from '../http/log.ts';
import { openStore, storePlace } from '../open.ts';
import { openSessions } from '../sessions.ts';

/** Serves the store of the configuration until it is told to stop; then what runs is finished. */
export async function serve(context: Context): Promise<void> {
  const { config, output, signal, version } = context;
  const sessions = openSessions(await openStore(config));
  try {
    const lines = { write: (line: string) => output.result(line.trimEnd()) };
    const serving = await listen({
      ...config.serve,
      sessions,
      version,
      signal,
      keys: followKeys(context),
      log: output.terminal ? shortLines(lines) : lines,
    });
    output.info(`Listening on ${serving.url}, storing in ${storePlace(config)}.`);
    await serving.closed;
  } finally {
    await sessions.close();
  }
}

/** Matches no key that there is. */
const nobody: Key = { name: 'nobody', hash: '0'.repeat(64), agents: '*', scopes: ['read'] };

/**
 * The keys as the configuration file has them now: read again whenever it has changed. A file that has become
 * wrong is reported once and changes nothing. Where there have been keys, having none lets nobody in, instead of
 * everybody on this machine.
 */
export function followKeys({ config, configPath, env, output }: Context): () => Promise<readonly Key[]> {
  let keys: readonly Key[] = config.keys;
  let seen: string | undefined;
  let reading: Promise<void> | undefined;

  async function follow(): Promise<void> {
    const version = await versionOf(configPath);
    if (version === seen) return;
    seen = version;
    try {
      const next = (await loadConfig({ env, file: configPath })).keys;
      keys = next.length === 0 && keys.length > 0 ? [nobody] : next;
    } catch (error) {
      if (!(error instanceof NexusError)) throw error;
      output.warn(`The keys stay as they were: ${describe(error)}`);
    }
  }

  return async () => {
    reading ??= follow().finally(() => {
      reading = undefined;
    });
    await reading;
    return keys;
  };
}

/** Changes whenever the file does; a write through a temporary file gives it another inode. */
async function versionOf(path: string): Promise<string> {
  try {
    const { ino, mtimeMs, ctimeMs, size } = await stat(path);
    return `${ino} ${mtimeMs} ${ctimeMs} ${size}`;
  } catch (error) {
    return `absent ${error instanceof Error && 'code' in error ? String(error.code) : ''}`;
  }
}
