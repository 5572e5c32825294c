import { checkSettings } from '../config.ts';
import { editSettings } from '../configfile.ts';
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
}

/** Makes a key, keeps its hash in the configuration file, and prints the key: the only time it is shown. */
export async function add({ configPath, env, output }: Surroundings, options: AddOptions): Promise<void> {
  const { name } = options;
  const key = makeKey();
  const entry = checkedEntry({
    name,
    hash: hashKey(key),
    agents: options.agents ?? '*',
    scopes: options.scopes ?? [...allScopes],
  });
  await editSettings(configPath, (settings) => {
    checkSettings(settings, env);
    const keys = keysIn(settings['keys']);
    if (keys.some((one) => one.name === name))
      throw new NexusError('usage', `There is a key called ${name} already.`, {
        hint: `Remove it with \`nexus keys remove ${name}\`, or take another name.`,
      });
    return { ...settings, keys: [...keys, entry] };
  });
  if (output.json) output.result({ name, key });
  else {
    output.result(key);
    output.info(`This is the key ${name}, for ${reachOf(entry)}. It is shown this once; keep it.`);
  }
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
  await editSettings(configPath, (settings) => {
    checkSettings(settings, env);
    const keys = keysIn(settings['keys']);
    if (!keys.some((one) => one.name === name)) {
      const near = nearest(
        name,
        keys.map((one) => one.name),
      );
      throw new NexusError('usage', `There is no key called ${JSON.stringify(name)}.`, {
        hint: near === undefined ? 'See `nexus keys list`.' : `Did you mean ${near}?`,
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
