import { stat } from 'node:fs/promises';
import { type Config, loadConfig } from '../config.ts';
import type { Environment } from '../configfile.ts';
import type { Context } from '../context.ts';
import { describe, NexusError } from '../errors.ts';
import type { Key } from '../keys.ts';
import { resolveSecret, type Secret } from '../secrets.ts';

/** What a running endpoint takes from the configuration anew. */
export type Followed = Pick<Config, 'keys' | 'mailboxes' | 'budgets' | 'alerts' | 'prices'>;

/** A change takes hold after this long at most; until then a look at the file would be most of a small request's cost. */
const lookEveryMs = 25;

/** Matches no key that there is. */
const nobody: Key = { name: 'nobody', hash: '0'.repeat(64), agents: '*', scopes: ['read'] };

/**
 * Keys, mailboxes, budgets, alerts and prices as the configuration file has them now: read again whenever it has changed. A
 * file that has become wrong is reported once and changes nothing. Where there have been keys, having none lets nobody
 * in, instead of everybody on this machine.
 */
export function followConfig({ config, configPath, env, output }: Context): () => Promise<Followed> {
  let followed: Followed = config;
  let seen: string | undefined;
  let reading: Promise<void> | undefined;
  let looked = -lookEveryMs;

  async function follow(): Promise<void> {
    const version = await versionOf(configPath);
    if (version === seen) return;
    seen = version;
    try {
      const { keys, mailboxes, budgets, alerts, prices } = await loadConfig({ env, file: configPath });
      followed = {
        keys: keys.length === 0 && followed.keys.length > 0 ? [nobody] : keys,
        mailboxes,
        budgets,
        alerts,
        prices,
      };
    } catch (error) {
      if (!(error instanceof NexusError)) throw error;
      output.warn(`Keys, mailboxes, budgets, alerts and prices stay as they were: ${describe(error)}`, {
        code: error.code,
      });
    }
  }

  return async () => {
    if (reading === undefined) {
      // Counted from before the look: what is written while it runs may not be in it.
      const began = performance.now();
      if (began - looked < lookEveryMs) return followed;
      looked = began;
      reading = follow().finally(() => {
        reading = undefined;
      });
    }
    await reading;
    return followed;
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

/** How long a secret that was read is believed, so that a changed file soon takes hold. */
const secretMs = 5000;

/** Secrets by where they are kept, each read at most once in five seconds. */
export function followSecrets(env: Environment, now: () => number = () => performance.now()) {
  const known = new Map<string, { at: number; value: Promise<string> }>();
  return (secret: Secret): Promise<string> => {
    if (typeof secret === 'string') return Promise.resolve(secret);
    const place = JSON.stringify(secret);
    const time = now();
    for (const [other, { at }] of known) if (time - at >= secretMs) known.delete(other);
    const value = known.get(place)?.value ?? resolveSecret(secret, env);
    if (!known.has(place)) known.set(place, { at: time, value });
    return value;
  };
}
