import { checkSettings, loadConfig } from '../config.ts';
import { editSettings, type Settings } from '../configfile.ts';
import type { Context, Surroundings } from '../context.ts';
import { NexusError } from '../errors.ts';
import { hashKey, type Key, keySchema, makeKey, scopes as allScopes } from '../keys.ts';
import { nearest } from '../nearest.ts';

export interface AddOptions {
  name: string;
  /** All agents when not said. */
  agents: string[] | undefined;
  /** All scopes when not said. */
  scopes: string[] | undefined;
  /** Leave the file as it is and print what goes into the environment of every replica. */
  printConfig: boolean;
}

/**
 * Makes a key, keeps its hash in the configuration file, and prints the key: the only time it is shown. With
 * `printConfig` all keys in effect and this one are printed after it instead, as NEXUS_KEYS has them.
 */
export async function add(given: Surroundings, options: AddOptions): Promise<void> {
  const { configPath, env, output } = given;
  const { name } = options;
  const key = makeKey();
  const entry = checkedEntry({
    name,
    hash: hashKey(key),
    agents: options.agents ?? '*',
    scopes: options.scopes ?? [...allScopes],
  });
  const reach = `This is the key ${name}, for ${reachOf(entry)}. It is shown this once; keep it.`;
  if (options.printConfig) {
    const keys = [...(await loadConfig({ env, file: configPath })).keys];
    if (keys.some((one) => one.name === name)) throw taken(name);
    const value = JSON.stringify([...keys, entry]);
    if (output.json) output.result({ name, key, variable: 'NEXUS_KEYS', value });
    else {
      output.result(key);
      output.result(`NEXUS_KEYS='${value}'`);
      output.info(
        `${reach} The line after it goes into the environment of every replica; nothing is kept here.`,
      );
    }
    return;
  }
  await editSettings(configPath, (settings) => {
    checkSettings(settings, env);
    return withKey(settings, entry);
  });
  if (output.json) output.result({ name, key });
  else {
    output.result(key);
    output.info(reach);
  }
}

/** The settings with a key more. `usage` when there is one of its name. */
export function withKey(settings: Settings, entry: Key): Settings {
  const keys = keysIn(settings['keys']);
  if (keys.some((one) => one.name === entry.name)) throw taken(entry.name);
  return { ...settings, keys: [...keys, entry] };
}

function taken(name: string): NexusError {
  return new NexusError('usage', `There is a key called ${name} already.`, {
    hint: `Remove it with \`nexus keys remove ${name}\`, or take another name.`,
  });
}

export async function list({ config, output }: Context): Promise<void> {
  const keys = config.keys.map(({ name, agents, scopes }) => ({ name, agents, scopes }));
  if (output.json) output.result({ command: 'keys list', ok: true, keys, schemaVersion: 1 });
  else if (keys.length === 0)
    output.info('There are no keys: `nexus serve` answers on loopback only, to anybody there.');
  else
    output.table(
      [{ title: 'NAME' }, { title: 'AGENTS' }, { title: 'SCOPES' }],
      keys.map(({ name, agents, scopes }) => [
        name,
        agents === '*' ? 'all' : agents.join(','),
        scopes.join(','),
      ]),
    );
}

export async function remove(
  { configPath, env, output }: Surroundings,
  { name }: { name: string },
): Promise<void> {
  const { keys: inEffect } = await loadConfig({ env, file: configPath });
  await editSettings(configPath, (settings) => {
    checkSettings(settings, env);
    const keys = keysIn(settings['keys']);
    if (!keys.some((one) => one.name === name)) {
      const near = nearest(
        name,
        keys.map((one) => one.name),
      );
      throw new NexusError('usage', `There is no key called ${JSON.stringify(name)} in ${configPath}.`, {
        hint: inEffect.some((one) => one.name === name)
          ? 'Take it out of NEXUS_KEYS, in the environment.'
          : near === undefined
            ? 'See `nexus keys list`.'
            : `Did you mean ${near}?`,
      });
    }
    return { ...settings, keys: keys.filter((one) => one.name !== name) };
  });
  if (output.json) output.result({ command: 'keys remove', ok: true, name, schemaVersion: 1 });
  else output.info(`The key ${name} is good for nothing from now on.`);
}

function checkedEntry(entry: unknown): Key {
  const result = keySchema.safeParse(entry);
  if (result.success) return result.data;
  const wrong = result.error.issues.map((issue) => `--${String(issue.path[0])}: ${issue.message}`);
  throw new NexusError('usage', `This key cannot be made: ${[...new Set(wrong)].join('; ')}.`);
}

function keysIn(value: unknown): Key[] {
  return keySchema.array().parse(value ?? []);
}

function reachOf({ agents, scopes }: Key): string {
  return `${agents === '*' ? 'all agents' : agents.join(', ')} and ${scopes.join(', ')}`;
}
