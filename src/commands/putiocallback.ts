import { createHash } from 'node:crypto';
import { checkSettings, loadConfig } from '../config.ts';
import { editSettings, type Settings } from '../configfile.ts';
import type { Context } from '../context.ts';
import { NexusError } from '../errors.ts';
import { underLock } from '../jobs/agentlock.ts';
import { mailboxIn, putioSource, shownCallback } from '../putio/callback.ts';
import type { Putio } from '../putio/api.ts';
import { resolveSecret } from '../secrets.ts';
import { withValue } from '../settings.ts';
import { sourceIn } from './webhookurl.ts';

/** One at a time on this machine: what was there before is read, kept and replaced in three steps. */
export async function alone<T>({ config }: Context, name: string, work: () => Promise<T>): Promise<T> {
  let done: { value: T } | undefined;
  const busy = await underLock(config, 'putio', name, async () => {
    done = { value: await work() };
  });
  if (done === undefined) throw new NexusError('busy', `put.io is being seen to already. ${busy ?? ''}`);
  return done.value;
}

/** Whether a callback is one that we set: that very one, one at this endpoint, or with a secret of a source here. */
export async function isOurs(
  { configPath, env }: Pick<Context, 'configPath' | 'env'>,
  callback: string,
  base: string | undefined,
): Promise<boolean> {
  const config = await loadConfig({ env, file: configPath });
  const { callbackSet } = config.putio;
  if (callbackSet?.sha256 === sha256(callback)) return true;
  const named = mailboxIn(callback);
  if (named?.source !== putioSource) return false;
  if ([base, config.serve.url?.replace(/\/+$/, ''), callbackSet?.base].includes(named.base)) return true;
  return await hasOurSecret({ configPath, env }, callback);
}

/** Whether the endpoint that is configured here lets in who calls this. */
export async function hasOurSecret(
  { configPath, env }: Pick<Context, 'configPath' | 'env'>,
  callback: string,
): Promise<boolean> {
  const named = mailboxIn(callback);
  if (named === undefined) return false;
  const secret = new URL(callback).searchParams.get('secret');
  const source = sourceIn(await loadConfig({ env, file: configPath }), named);
  for (const one of [source?.secret ?? []].flat())
    if (secret !== null && (await resolveSecret(one, env)) === secret) return true;
  return false;
}

/** As the configuration remembers what was set. */
export function rememberedAs(url: string, base: string): Settings {
  return { base, sha256: sha256(url) };
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** Reads the callback back. */
export async function checkCallback(putio: Putio, wanted: string | undefined, hint: string): Promise<void> {
  const read = await putio.callback();
  if (read === wanted) return;
  const has = read === undefined ? 'none' : shownCallback(read);
  throw new NexusError('unavailable', `put.io took the callback, and says that it has ${has}.`, { hint });
}

/** Changes what the configuration file has below `putio`; `undefined` takes a setting out. */
export async function editPutio({ configPath, env }: Context, changes: Settings): Promise<void> {
  await editSettings(configPath, (settings) => {
    let written = settings;
    for (const [name, value] of Object.entries(changes)) written = withValue(written, ['putio', name], value);
    checkSettings(written, env);
    return written;
  });
}
