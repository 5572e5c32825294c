import type { IncomingHttpHeaders } from 'node:http';
import { NexusError } from '../errors.ts';
import { allows, findKey, type Key, type Scope, scopes as allScopes } from '../keys.ts';
import { isLoopback } from './loopback.ts';
import { headers } from './wire.ts';

/** Who is asking, and what they may. */
export interface Caller {
  /** The key's name, for the log; `undefined` where the endpoint has no keys. */
  name: string | undefined;
  /** The agents they may name, or all. */
  agents: '*' | readonly string[];
  /** Throws `forbidden` unless one of the scopes, and the agent when one is named, is theirs. */
  require(scopes: readonly Scope[], agent?: string): void;
}

export interface Asked {
  headers: IncomingHttpHeaders;
  /** The parsed query. */
  query: unknown;
  /** The peer's address. */
  address: string | undefined;
}

/** Lets a request in by its key, or, where the endpoint has none, because it comes from this machine and no page. */
export function authenticate(keys: readonly Key[], asked: Asked): Caller {
  if (keys.length === 0) {
    refuseOutsiders(asked);
    return { name: undefined, agents: '*', require: () => undefined };
  }
  const presented = presentedKey(asked);
  if (presented === undefined)
    throw new NexusError('unauthorized', 'This endpoint needs a key: send it as the header x-functions-key.');
  const key = findKey(keys, presented);
  if (key === undefined) throw new NexusError('unauthorized', 'This key is not known here.');
  return callerWith(key);
}

/** What the holder of a key may. */
export function callerWith(key: Key): Caller {
  return {
    name: key.name,
    agents: key.agents,
    require(scopes, agent) {
      if (!scopes.some((scope) => allows(key, scope)))
        throw new NexusError(
          'forbidden',
          `The key "${key.name}" lacks the scope ${scopes.map((scope) => `"${scope}"`).join(' or ')}.`,
        );
      if (!scopes.some((scope) => allows(key, scope, agent)))
        throw new NexusError('forbidden', `The key "${key.name}" is not good for the agent "${agent}".`);
    },
  };
}

/**
 * Refuses a key that may do everything in the query of a webhook's URL: senders keep their URLs, show and log them.
 * Only who has the key learns that it is one.
 */
export function refuseMightyUrl(keys: readonly Key[], { headers: fields, query }: Asked): void {
  const code = fields[headers.key] === undefined ? codeIn(query) : undefined;
  const key = code === undefined ? undefined : findKey(keys, code);
  if (key === undefined || !allScopes.every((scope) => allows(key, scope))) return;
  throw new NexusError(
    'forbidden',
    `The key "${key.name}" may do everything and is in a webhook's URL, where others see it: run \`nexus webhooks url\` for one that may deliver only, and remove this key.`,
  );
}

/** Whether any key is shown, right or wrong. */
export function presentsKey(asked: Asked): boolean {
  return presentedKey(asked) !== undefined;
}

function presentedKey({ headers: fields, query }: Asked): string | undefined {
  const field = fields[headers.key];
  if (field !== undefined) return typeof field === 'string' ? field : undefined;
  return codeIn(query);
}

function codeIn(query: unknown): string | undefined {
  if (typeof query !== 'object' || query === null || !('code' in query)) return undefined;
  return typeof query.code === 'string' ? query.code : undefined;
}

const forwardingHeaders = [
  'forwarded',
  'via',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
  'x-forwarded-server',
  'x-original-host',
  'x-real-ip',
  'x-client-ip',
  'true-client-ip',
  'cf-connecting-ip',
  'cf-ray',
  'fly-client-ip',
  'tailscale-user-login',
];

/** Without keys, loopback is the only fence: a proxy, a tunnel or a web page must not reach through it. */
export function refuseOutsiders({ headers: fields, address }: Asked): void {
  if (address === undefined || !isLoopback(address))
    throw new NexusError(
      'forbidden',
      'Without any key this endpoint answers this machine only: run `nexus keys add`.',
    );
  const forwarded = forwardingHeaders.find((name) => fields[name] !== undefined);
  if (forwarded !== undefined)
    throw new NexusError(
      'forbidden',
      `Without any key this endpoint refuses forwarded requests (${forwarded}): run \`nexus keys add\`.`,
    );
  const host = fields.host ?? '';
  if (!isLoopback(hostName(host)))
    throw new NexusError(
      'forbidden',
      'Without any key this endpoint answers to a loopback Host only: use 127.0.0.1, or run `nexus keys add`.',
    );
  const { origin } = fields;
  const fetchSite = fields['sec-fetch-site'];
  const foreign = origin !== undefined && origin.toLowerCase() !== `http://${host.toLowerCase()}`;
  if (foreign || fetchSite === 'cross-site' || fetchSite === 'same-site')
    throw new NexusError(
      'forbidden',
      'Without any key this endpoint refuses requests from web pages of another origin.',
    );
}

/** The name in a Host field, without its port. */
function hostName(host: string): string {
  return host.replace(/:\d*$/, '');
}
