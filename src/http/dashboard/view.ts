import { checkAgentId } from '../../agents.ts';
import type { Nexus } from '../../nexus.ts';
import type { Webhooks } from '../../mailbox.ts';
import type { Usage } from '../../usage.ts';
import type { Caller } from '../auth.ts';
import type { Hosts } from './hosts.ts';

/** What a page is made from: what is asked for, by whom, and the nouns that answer. */
export interface View {
  caller: Caller;
  root: string;
  now: Date;
  timeZone: string;
  /** Parts of the path. */
  params: Record<string, string>;
  query: URLSearchParams;
  /** Of what the caller may see, and of nothing else. */
  usage: Pick<Usage, 'query' | 'sessions' | 'items' | 'costOf'>;
  sessions: Nexus;
  webhooks: Webhooks;
  hosts: Hosts;
  /** Keeps in the log what one part of the page failed of, and says what is shown in its place; throws for a bug. */
  failed: (error: unknown) => string;
}

/** A field of the query, without spaces around it; `undefined` when it is empty. */
export function asked({ query }: View, name: string): string | undefined {
  const text = query.getAll(name).at(-1)?.trim();
  return text === undefined || text === '' ? undefined : text;
}

/** A field that has one of these values, else the first of them. */
export function choice<const T extends string>(view: View, name: string, values: readonly [T, ...T[]]): T {
  const said = asked(view, name);
  return values.find((value) => value === said) ?? values[0];
}

/** A whole number of the query, or `fallback`. */
export function whole(view: View, name: string, fallback: number): number {
  const said = asked(view, name) ?? '';
  return /^\d{1,9}$/.test(said) ? Number(said) : fallback;
}

/**
 * The agents that figures are taken of: those that are asked for, each the caller's own, else all that it may see;
 * `undefined` for all there are. `forbidden` for another's.
 */
export function agentsIn(view: View): string[] | undefined {
  const named = view.query.getAll('agent').filter((agent) => agent.trim() !== '');
  for (const agent of named) view.caller.require(['read'], checkAgentId(agent));
  if (named.length > 0) return named;
  return view.caller.agents === '*' ? undefined : [...view.caller.agents];
}

export function usageWithin(usage: Usage, { agents }: Caller): View['usage'] {
  const within = agents === '*' ? undefined : agents;
  return {
    query: (request) => usage.query(request, within),
    sessions: (request) => usage.sessions(request, within),
    items: usage.items,
    costOf: usage.costOf,
  };
}

export function maySee({ caller }: View, agent: string): boolean {
  return caller.agents === '*' || caller.agents.includes(agent);
}

/** A link within the dashboard: path segments and query values, each encoded here. */
export function link(
  { root }: { root: string },
  path: readonly string[],
  query: Record<string, string | number | readonly string[] | undefined> = {},
): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query))
    for (const one of [value].flat()) if (one !== undefined && one !== '') search.append(name, String(one));
  const text = search.toString();
  return `${root}${path.map(encodeURIComponent).join('/')}${text === '' ? '' : `?${text}`}`;
}
