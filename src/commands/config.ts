import { checkSettings, listSettings, valueAt } from '../config.ts';
import { editSettings, isSettings, type Settings } from '../configfile.ts';
import type { Context, Surroundings } from '../context.ts';
import { failedWith, NexusError } from '../errors.ts';
import { nearest } from '../nearest.ts';

const masked = '********';

export async function get({ config, output }: Context, { setting }: { setting: string }): Promise<void> {
  const value = valueAt(config, keysOf(setting));
  if (value === undefined) throw absent(setting);
  if (output.json) output.result({ command: 'config get', ok: true, setting, value, schemaVersion: 1 });
  else output.result(shown(value));
}

/** Secrets are masked, and of keys the text has only the names. */
export async function list({ config, output }: Context): Promise<void> {
  const names = config.keys.map(({ name }) => name).join(', ');
  const settings = listSettings().map(({ name, secret }) => {
    const value = valueAt(config, name.split('.'));
    return { name, value: secret && value !== undefined ? masked : value };
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
  const keys = keysOf(setting);
  await editSettings(configPath, (settings) => {
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
  const keys = keysOf(setting);
  let was = false;
  await editSettings(configPath, (settings) => {
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

/** The keys of a dotted name; a dot of an agent's own id is written `\.`. */
function keysOf(setting: string): string[] {
  const keys = setting.split(/(?<!\\)\./).map((key) => key.replaceAll('\\.', '.'));
  if (keys.includes(''))
    throw new NexusError('usage', `${JSON.stringify(setting)} is not the name of a setting.`);
  return keys;
}

/** The settings with one of them changed, or without it; objects that become empty go with it. */
function withValue(settings: Settings, [key = '', ...rest]: string[], value: unknown): Settings {
  const others = Object.entries(settings).filter(([name]) => name !== key);
  const below = valueAt(settings, [key]);
  const changed = rest.length === 0 ? value : withValue(isSettings(below) ? below : {}, rest, value);
  const gone = changed === undefined || (value === undefined && isSettings(changed) && isEmpty(changed));
  return Object.fromEntries<unknown>(gone ? others : [...others, [key, changed]]);
}

function isEmpty(settings: Settings): boolean {
  return Object.keys(settings).length === 0;
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
  return new NexusError('usage', `There is no setting ${JSON.stringify(setting)}.`, {
    hint: near === undefined ? 'See `nexus config list`.' : `Did you mean ${near}?`,
  });
}
