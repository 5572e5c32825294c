import { createHash, randomBytes } from 'node:crypto';
import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify';
import { createServer } from '../../../src/http/server.ts';
import { type Mailboxes, mailboxSchema } from '../../../src/sources.ts';
import type { Store } from '../../../src/stores/store.ts';
import { openSessions } from '../../../src/sessions.ts';
import { openWebhooks } from '../../../src/webhooks.ts';
import { nounsOver } from '../../http/nouns.ts';

/** The endpoint over a store, and its log. */
export interface Served {
  app: FastifyInstance;
  log: string[];
  /** GitHub may post for this agent from now on. */
  admit(agent: string): void;
}

export function servedOver(store: Store): Served {
  const log: string[] = [];
  const nouns = nounsOver(store);
  const mailboxes: Mailboxes = {};
  const app = createServer({
    ...nouns,
    mailboxes: () => mailboxes,
    keys: () => [],
    version: '0.0.0',
    log: (entry) => void log.push(JSON.stringify(entry)),
  });
  return {
    app,
    log,
    admit(agent) {
      mailboxes[agent] = mailboxSchema.parse({ sources: { github: { verify: 'none' } } });
    },
  };
}

/** One request to the endpoint, what its good answer promises, and how it is made good. */
export interface RequestFlow {
  name: string;
  prepare(store: Store, agent: string): Promise<Prepared>;
}

export interface Prepared {
  request: InjectOptions;
  /** Statuses that say that it is done, or that it had been when it is asked again. */
  good: readonly number[];
  again: readonly number[];
  /** What is not as a good answer says. */
  untrue(store: Store, answer: LightMyRequestResponse): Promise<string[]>;
  /** The same after it was asked again until it was good. */
  unfinished(store: Store): Promise<string[]>;
}

const session = 'dddddddd-dddd-4ddd-8ddd-dddddddddddd';
const some = Buffer.from('{"type":"session"}\n{"n":1}\n');
const more = Buffer.from('{"n":2}\n{"n":3}\n');

export const requestFlows: readonly RequestFlow[] = [
  { name: 'POST a webhook', prepare: (_, agent) => webhook(agent, 20) },
  { name: 'POST a webhook larger than a row', prepare: (_, agent) => webhook(agent, 60_000) },
  {
    name: 'POST a session',
    prepare: (_, agent) =>
      put(
        {
          method: 'POST',
          url: '/api/sessions',
          payload: { agentId: agent, sessionId: session, transcript: some.toString() },
        },
        [200],
        // It is there of the first try, which its caller is told as a conflict.
        [200, 409],
        agent,
        some,
      ),
  },
  {
    name: 'PATCH a new transcript',
    prepare: (_, agent) => put(patch(agent, 0, some), [201], [201, 204, 409], agent, some),
  },
  {
    name: 'PATCH a transcript on',
    async prepare(store, agent) {
      await openSessions(store).append(agent, session, 0, some, { complete: false, about: {} });
      return await put(
        patch(agent, some.length, more),
        [204],
        [204, 409],
        agent,
        Buffer.concat([some, more]),
      );
    },
  },
  { name: 'HEAD a transcript', prepare: (store, agent) => look(store, agent, 'HEAD') },
  { name: 'GET a transcript', prepare: (store, agent) => look(store, agent, 'GET') },
  { name: 'GET the list of transcripts', prepare: (store, agent) => look(store, agent, 'list') },
  { name: 'GET what is pending', prepare: (store, agent) => mailbox(store, agent, 'pending') },
  { name: 'DELETE what was delivered', prepare: (store, agent) => mailbox(store, agent, 'acknowledge') },
  { name: 'POST a replay', prepare: (store, agent) => mailbox(store, agent, 'replay') },
];

async function webhook(agent: string, length: number): Promise<Prepared> {
  const body = `{"n":1.50,"text":"${randomBytes(length).toString('hex')}"}`;
  const held = async (store: Store): Promise<string[]> => {
    const webhooks = openWebhooks(store);
    const wrong: string[] = [];
    let count = 0;
    for await (const { id, state } of webhooks.list({ agent })) {
      count++;
      if (state !== 'pending') wrong.push(`${id} is ${state}`);
      if ((await webhooks.body(id)).body.toString() !== body) wrong.push(`${id} has another body`);
    }
    if (count !== 1) wrong.push(`there are ${count} items of one delivery`);
    return wrong;
  };
  const headers = { 'content-type': 'application/json', 'x-github-delivery': randomBytes(8).toString('hex') };
  return {
    request: { method: 'POST', url: `/api/webhook/${agent}?source=github`, payload: body, headers },
    good: [202],
    again: [200, 202],
    untrue: held,
    unfinished: held,
  };
}

function patch(agent: string, offset: number, bytes: Buffer): InjectOptions {
  return {
    method: 'PATCH',
    url: `/api/sessions/${agent}/${session}`,
    payload: bytes,
    headers: {
      'content-type': 'application/partial-upload',
      'upload-offset': String(offset),
      'upload-complete': '?1',
    },
  };
}

async function put(
  request: InjectOptions,
  good: readonly number[],
  again: readonly number[],
  agent: string,
  whole: Buffer,
): Promise<Prepared> {
  const held = async (store: Store): Promise<string[]> => {
    const card = await openSessions(store).stat(agent, session, { digest: 'reread' });
    if (card?.length === whole.length && card.digest === sha256(whole)) return [];
    return [`of ${whole.length} bytes ${card?.length ?? 'none'} are stored`];
  };
  return { request, good, again, untrue: held, unfinished: held };
}

async function look(store: Store, agent: string, how: 'HEAD' | 'GET' | 'list'): Promise<Prepared> {
  await openSessions(store).append(agent, session, 0, some, { complete: true, about: {} });
  const url = how === 'list' ? `/api/sessions?agentId=${agent}` : `/api/sessions/${agent}/${session}`;
  return {
    request: {
      method: how === 'HEAD' ? 'HEAD' : 'GET',
      url,
      headers: how === 'HEAD' ? { 'want-repr-digest': 'sha-256=1', 'cache-control': 'no-cache' } : {},
    },
    good: [200],
    again: [200],
    async untrue(_, answer) {
      if (how === 'GET') return answer.rawPayload.equals(some) ? [] : ['other bytes were answered'];
      if (how === 'list')
        return answer.body.includes(`"transcript":"${session}"`) ? [] : ['a transcript is not listed'];
      const digest = `sha-256=:${Buffer.from(sha256(some), 'hex').toString('base64')}:`;
      const fits =
        answer.headers['upload-offset'] === String(some.length) && answer.headers['repr-digest'] === digest;
      return fits ? [] : [`another length or digest was answered: ${JSON.stringify(answer.headers)}`];
    },
    unfinished: () => Promise.resolve([]),
  };
}

async function mailbox(
  store: Store,
  agent: string,
  how: 'pending' | 'acknowledge' | 'replay',
): Promise<Prepared> {
  const webhooks = openWebhooks(store);
  const ids: string[] = [];
  for (const length of [20, 60_000])
    ids.push(
      (
        await webhooks.receive({
          agent,
          source: 'github',
          contentType: 'application/json',
          headers: {},
          body: Buffer.from(`{"text":"${'x'.repeat(length)}"}`),
        })
      ).id,
    );
  const [id = ''] = ids;
  if (how === 'replay') await webhooks.acknowledge([id], 'box');
  const json = { 'content-type': 'application/json' };
  const states = async (of: Store): Promise<string> => {
    const found: string[] = [];
    for await (const { state } of openWebhooks(of).list({ agent })) found.push(state);
    return found.toSorted().join();
  };
  const wanted = {
    pending: 'pending,pending',
    acknowledge: 'delivered,delivered',
    replay: 'delivered,pending,pending',
  };
  const held = async (of: Store): Promise<string[]> => {
    const now = await states(of);
    return now === wanted[how] ? [] : [`the items are ${now}, and should be ${wanted[how]}`];
  };
  const requests: Record<typeof how, InjectOptions> = {
    pending: {
      method: 'GET',
      url: `/api/webhook/pending?agentId=${agent}`,
      headers: { 'x-nexus-host': 'box' },
    },
    acknowledge: {
      method: 'DELETE',
      url: '/api/webhook/items',
      headers: { ...json, 'x-nexus-host': 'box' },
      payload: JSON.stringify({ ids }),
    },
    replay: {
      method: 'POST',
      url: `/api/webhook/items/${id}/replay`,
      headers: json,
      payload: JSON.stringify({ request: '5e1c2b7a-0000-4000-8000-000000000001' }),
    },
  };
  return {
    request: requests[how],
    good: [how === 'replay' ? 201 : 200],
    again: [how === 'replay' ? 201 : 200],
    async untrue(of, answer) {
      const missing = how === 'pending' ? ids.filter((one) => !answer.body.includes(`"${one}"`)) : [];
      return [...missing.map((one) => `${one} is pending and was not answered`), ...(await held(of))];
    },
    unfinished: held,
  };
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
