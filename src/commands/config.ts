import { checkSettings, listSettings, withoutSecrets } from '../config.ts';
import { editSettings, isSettings, type Settings } from '../configfile.ts';
import type { Context, Surroundings } from '../context.ts';
import { failedWith, NexusError } from '../errors.ts';
import { nearest } from '../nearest.ts';
import { keysIn, valueAt, withValue } from '../settings.ts';

/** A secret is shown when it is asked for by its own name, and masked in what it is a part of. */
export async function get({ config, output }: Context, { setting }: { setting: string }): Promise<void> {
  const keys = keysOf(config, setting);
  const found = valueAt(config, keys);
  if (found === undefined) throw absent(setting);
  const value = isSettings(found) ? withoutSecrets(keys, found) : found;
  if (output.json) output.result({ command: 'config get', ok: true, setting, value, schemaVersion: 1 });
  else output.result(shown(value));
}

/** Secrets are masked, and of keys the text has only the names. */
export async function list({ config, output }: Context): Promise<void> {
  const names = config.keys.map(({ name }) => name).join(', ');
  const settings = listSettings().map(({ name }) => {
    const keys = name.split('.');
    return { name, value: withoutSecrets(keys, valueAt(config, keys)) };
  });
  const said = settings.filter(({ value }) => value !== undefined);
  if (output.json)
    output.result({
      command: 'config list',
      ok: true,
      settings: Object.fromEntries(said.map(({ name, value }) => [name, value])),
      schemaVersion: 1,
    });
  else
    output.table(
      [{ title: 'SETTING' }, { title: 'VALUE', align: 'left' }],
      said.map(({ name, value }) => [name, name === 'keys' ? names : shown(value)]),
    );
}

export async function path({ configPath, output }: Surroundings): Promise<void> {
  if (output.json) output.result({ command: 'config path', ok: true, path: configPath, schemaVersion: 1 });
  else output.result(configPath);
}

export async function set(
  { configPath, env, output }: Surroundings,
  { setting, value }: { setting: string; value: string },
): Promise<void> {
  await editSettings(configPath, (settings) => {
    const keys = keysOf(settings, setting);
    const written = withValue(settings, keys, fromText(value));
    try {
      checkSettings(written, env);
      return written;
    } catch (error) {
      // `config set apiKey 123` means the text, which only the schema knows.
      const asText = withValue(settings, keys, value);
      if (!failedWith(error, 'config') || !isValid(asText)) throw error;
      return asText;
    }
  });
  if (output.json)
    output.result({ command: 'config set', ok: true, setting, path: configPath, schemaVersion: 1 });
  else output.info(`${setting} is set in ${configPath}.`);

  function isValid(settings: Settings): boolean {
    try {
      checkSettings(settings, env);
      return true;
    } catch (error) {
      if (failedWith(error, 'config')) return false;
      throw error;
    }
  }
}

export async function unset(
  { configPath, env, output }: Surroundings,
  { setting }: { setting: string },
): Promise<void> {
  let was = false;
  await editSettings(configPath, (settings) => {
    const keys = keysOf(settings, setting);
    was = valueAt(settings, keys) !== undefined;
    const written = withValue(settings, keys, undefined);
    if (was) checkSettings(written, env);
    return written;
  });
  if (output.json)
    output.result({ command: 'config unset', ok: true, setting, was, path: configPath, schemaVersion: 1 });
  else
    output.info(was ? `${setting} is taken out of ${configPath}.` : `${setting} was not in ${configPath}.`);
}

function keysOf(settings: unknown, setting: string): string[] {
  const keys = keysIn(settings, setting);
  if (keys.includes('')) throw new NexusError('usage', `${named(setting)} is not the name of a setting.`);
  return keys;
}

function fromText(value: string): unknown {
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

function shown(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function absent(setting: string): NexusError {
  const names = listSettings().map(({ name }) => name);
  // What lies below `agents` is named by the user.
  if (names.some((name) => name === setting || setting.startsWith(`${name}.`)))
    return new NexusError('not_found', `${setting} is not set.`);
  const near = nearest(setting, names);
  return new NexusError('usage', `${named(setting)} is no setting.`, {
    hint: near === undefined ? 'See `nexus config list`.' : `Did you mean ${near}?`,
  });
}

/** As it was written, unless it is so long that it may be a secret in the wrong place. */
function named(setting: string): string {
  return setting.length > 64 ? 'What was said' : JSON.stringify(setting);
}
