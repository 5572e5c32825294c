import { existsSync } from 'node:fs';
import { checkSettings } from '../config.ts';
import { editSettings } from '../configfile.ts';
import type { Surroundings } from '../context.ts';
import { NexusError } from '../errors.ts';
import { hashKey, keySchema, makeKey } from '../keys.ts';
import { isFresh, storeDirectory, storePlace } from '../open.ts';
import { asAccount } from '../systemd/account.ts';
import { shellWord } from '../systemd/shellword.ts';
import type { Plan } from './installplan.ts';
import type { HostSite, Site } from './installsite.ts';

/**
 * Where the endpoint and the jobs of one machine belong to different users, the jobs get its URL and a key of their
 * own, not its files. A host that has an endpoint already keeps it, but gets another key where it is this one, made
 * anew since, which does not know the host's.
 */
export function withEndpoint(host: HostSite, endpoint: Site | undefined): HostSite {
  if (endpoint === undefined || host.account.uid === endpoint.account.uid) return host;
  const url = `http://127.0.0.1:${endpoint.config.serve.port}`;
  const { endpoint: said } = host.config;
  if (said !== undefined && (said.replace(/\/+$/, '') !== url || isKnown(host, endpoint))) return host;
  return { ...host, config: { ...host.config, endpoint: url }, newEndpoint: true };
}

/** A key that is kept elsewhere than in the configuration is its administrator's concern. */
function isKnown(host: HostSite, endpoint: Site): boolean {
  const key = host.settings['apiKey'];
  return typeof key === 'object' || isKeyOf(endpoint.config.keys, key);
}

function isKeyOf(keys: readonly { hash: string }[], key: unknown): boolean {
  return typeof key === 'string' && keys.some(({ hash }) => hash === hashKey(key));
}

/**
 * Why the jobs may not be given the endpoint yet: what they archived so far lies in a store of their own, which nobody
 * would look into any more. The users and directories that its hint names are to be there.
 */
export async function archiveLeft({ host, endpoint }: Plan): Promise<NexusError | undefined> {
  if (host?.newEndpoint !== true || endpoint === undefined) return undefined;
  const own = { ...host.config, endpoint: undefined };
  if (own.store.kind === 'azure')
    return endpoint.config.store.kind === 'azure'
      ? undefined
      : new NexusError(
          'config',
          `${host.account.name}'s archive is in the ${storePlace(own)}, and the endpoint's would be another.`,
          {
            hint: `Give ${endpoint.configPath} the same \`store\`, then run this again.`,
          },
        );
  if (await asAccount(host.account, () => isFresh(own))) return undefined;
  const [from, to] = [storeDirectory(own), storeDirectory(endpoint.config)];
  const what = `${host.account.name}'s archive is in ${from}, and the jobs would ask the endpoint's instead`;
  if (existsSync(to))
    return new NexusError('config', `${what}, which holds others' in ${to}.`, {
      hint: `To begin there with what OpenClaw still has: \`sudo systemctl stop 'nexus-*.timer' && sudo mv ${shellWord(from)} ${shellWord(`${from}.before`)}\`, then run this again. To keep one archive alone, move the other one's directory away.`,
    });
  const user = endpoint.account.name;
  return new NexusError('config', `${what}.`, {
    hint: `Move it: \`sudo systemctl stop 'nexus-*' && sudo mv ${shellWord(from)} ${shellWord(to)} && sudo chown -hR ${user}: ${shellWord(to)}\`, then run this again.`,
  });
}

/** Makes the key, and writes what `withEndpoint` decided into both configurations. */
export async function giveKey(plan: Plan, { env }: Surroundings, say: (what: string) => void): Promise<void> {
  const { host, endpoint } = plan;
  if (host?.newEndpoint !== true || endpoint === undefined) return;
  const url = host.config.endpoint;
  const key = makeKey();
  const name = `jobs-${host.account.name}`.replaceAll(/[^A-Za-z0-9._-]/g, '-').slice(0, 64);
  const entry = keySchema.parse({
    name,
    hash: hashKey(key),
    agents: '*',
    scopes: ['upload', 'pull', 'read'],
  });
  // First where it is good, so that a crash in between leaves nothing that is refused.
  await asAccount(endpoint.account, () =>
    editSettings(endpoint.configPath, (settings) => {
      const keys: unknown[] = Array.isArray(settings['keys']) ? settings['keys'] : [];
      const others = keys.filter((one) => !isNamed(one, name));
      const next = { ...settings, keys: [...others, entry] };
      checkSettings(next, { ...env, ...endpoint.env });
      return next;
    }),
  );
  await asAccount(host.account, () =>
    editSettings(host.configPath, (settings) => ({ ...settings, endpoint: url, apiKey: key })),
  );
  say(`gave ${host.account.name}'s jobs the endpoint ${url} and a key, in ${host.configPath}`);
}

function isNamed(key: unknown, name: string): boolean {
  return typeof key === 'object' && key !== null && 'name' in key && key.name === name;
}
