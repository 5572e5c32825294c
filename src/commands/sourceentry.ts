import { createHash, randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { checkSettings } from '../config.ts';
import { editSettings, isSettings, type Settings } from '../configfile.ts';
import type { Context } from '../context.ts';
import { failedWith, NexusError } from '../errors.ts';
import { hashKey, makeKey } from '../keys.ts';
import type { Secret } from '../secrets.ts';
import { valueAt, withValue } from '../settings.ts';
import type { Source, Verification } from '../sources.ts';
import { withKey } from './keys.ts';
import { ways } from './senders.ts';

/** A sender of an agent's webhooks, by what the command line says of it. */
export interface Said {
  /** Its id in Nexus. */
  agent: string;
  source: string;
  /** `env:NAME`, `file:PATH`, `credential:NAME`, or `-` for a line of stdin. */
  secretFrom: string | undefined;
  /** With `hmac`: where the signature is. */
  header: string | undefined;
}

/** Its name as `nexus config` takes it. */
export function settingOf({ agent, source }: Said): string {
  return `mailboxes.${agent}.sources.${source.replaceAll('.', '\\.')}`;
}

/**
 * Writes the source's entry into the configuration file, or another secret into the entry that it has. What is
 * `ours` to make, and is not said, is made.
 */
export async function writeSource(
  context: Context,
  said: Said,
  verify: Verification,
  known: Source | undefined,
  calledBy: string | undefined,
): Promise<void> {
  const { configPath, env, output } = context;
  const secret = await secretFor(context, said, verify);
  const entry: Settings = {
    verify,
    ...(secret === undefined ? {} : { secret }),
    ...(verify === 'meta' && known?.verifyToken === undefined ? { verifyToken: newSecret() } : {}),
    ...(verify === 'hmac' && known === undefined ? { hmac: { header: said.header } } : {}),
    ...(verify === 'twilio' && calledBy !== undefined ? { url: calledBy } : {}),
  };
  await editSettings(configPath, (settings) => {
    checkSettings(settings, env);
    const path = ['mailboxes', said.agent, 'sources', said.source];
    const before = valueAt(settings, path);
    if (before !== undefined && known === undefined)
      throw new NexusError('busy', 'Another process has just configured this source.', {
        hint: 'Run this again.',
      });
    const written = withValue(settings, path, { ...(isSettings(before) ? before : {}), ...entry });
    checkSettings(written, env);
    return written;
  });
  output.info(`${settingOf(said)} is set in ${configPath}; a running \`nexus serve\` follows it.`);
}

/** 256 random bits, in characters that every sender takes. */
function newSecret(): string {
  return randomBytes(32).toString('base64url');
}

async function secretFor(
  { readHiddenLine }: Context,
  { source, secretFrom }: Said,
  verify: Verification,
): Promise<Secret | undefined> {
  if (secretFrom === undefined) return ways[verify].secret === 'ours' ? newSecret() : undefined;
  if (secretFrom === '-') return await readHiddenLine(`The secret of ${source}`);
  const [, place, name = ''] = /^(env|file|credential):(.+)$/s.exec(secretFrom) ?? [];
  if (place === 'env') return { env: name };
  if (place === 'file') return { file: resolve(name) };
  if (place === 'credential') return { credential: name };
  // What was written there may be the secret itself: it is not repeated.
  throw new NexusError(
    'usage',
    '--secret-from must be env:NAME, file:PATH, credential:NAME, or - for stdin.',
  );
}

/** Makes a key that is good for this agent's webhooks alone. Only its hash is kept. */
export async function writeKey({ configPath, env, output }: Context, said: Said): Promise<string> {
  const key = makeKey();
  const name = keyName(said);
  let first = false;
  try {
    await editSettings(configPath, (settings) => {
      checkSettings(settings, env);
      const written = withKey(settings, {
        name,
        hash: hashKey(key),
        agents: [said.agent],
        scopes: ['webhook'],
      });
      checkSettings(written, env);
      first = settings['keys'] === undefined && !env['NEXUS_KEYS'];
      return written;
    });
  } catch (error) {
    if (!failedWith(error, 'usage')) throw error;
    throw new NexusError(
      'conflict',
      `There is a URL with the key ${name} already, and it cannot be shown again: only the key's hash is kept.`,
      {
        hint: `For another one, with which the old one ends, run \`nexus keys remove ${name}\` and then this again.`,
      },
    );
  }
  if (first)
    output.warn('This is the first key: from now on every caller of `nexus serve` needs one, hosts too.');
  return key;
}

/** `webhook-main-putio`, and with a hash where a key cannot be called so or another source's could. */
function keyName({ agent, source }: Said): string {
  const plain = `webhook-${agent}-${source}`;
  if (/^[A-Za-z0-9._-]{1,64}$/.test(plain) && !agent.includes('-')) return plain;
  const hash = createHash('sha256').update(`${agent} ${source}`).digest('hex').slice(0, 10);
  return `${plain.replaceAll(/[^A-Za-z0-9._-]+/g, '-').slice(0, 53)}-${hash}`;
}
