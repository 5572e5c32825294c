import path from 'node:path';
import { openClient } from '../../../src/http/client.ts';
import { serve } from '../../../src/http/listen.ts';
import { openMailboxClient } from '../../../src/http/mailboxclient.ts';
import { openSessions } from '../../../src/sessions.ts';
import { openAzureStore } from '../../../src/stores/azure.ts';
import { openLocalStore } from '../../../src/stores/local.ts';
import type { Store } from '../../../src/stores/store.ts';
import { openWebhooks } from '../../../src/webhooks.ts';
import { nounsOver } from '../../http/nouns.ts';
import { type Azurite, connectionStringOf } from '../../stores/azurite.ts';
import { networkFaults, openBadWay, type Plan } from './badway.ts';
import type { Box, Doors, Job, Outcome } from './box.ts';
import { runBinary } from './binary.ts';
import { firstUpload, type JobFlow, jobFlows } from './jobflows.ts';
import { type RequestFlow, requestFlows, type Served, servedOver } from './requests.ts';
import { storeFaults, throwing } from './throwing.ts';

/** Somewhere between a caller and what is stored, where faults are put. */
export interface Line {
  name: string;
  faults: readonly string[];
  /** How many in a row a fault hits. */
  times: readonly number[];
  jobs: readonly JobFlow[];
  requests: readonly RequestFlow[];
  /** Past every fault. */
  store: Store;
  begin(plan?: Plan): void;
  /** Requests or calls since. */
  count(): number;
  /** Runs a job where a fault may befall it; `past` them all, with the time limits that it has outside of a test. */
  run(box: Box, job: Job, past?: 'past'): Promise<Outcome>;
  served?: Served;
  /** Empties the store. */
  fresh?(): Promise<void>;
  close(): Promise<void>;
}

/** A try of a request takes no longer, ms, where a network may stall. */
const timeoutMs = 300;
/** The same of a call to Azure with all its tries; and where it is asked again within the same limit. */
const callMs = 800;
const requestMs = 1500;
const retries = { tries: 3, baseMs: 1, maxMs: 5 };
const always = Number.POSITIVE_INFINITY;

function doorsTo(endpoint: string, past?: 'past'): Doors {
  const patience = past === undefined ? { timeoutMs } : {};
  const options = { endpoint, retries, version: '0.0.0', ...patience };
  return {
    openNexus: () => Promise.resolve(openClient(options)),
    openMailbox: () => Promise.resolve(openMailboxClient(options)),
  };
}

async function endpointOver(store: Store): Promise<{ url: string; stop: () => Promise<void> }> {
  const stop = new AbortController();
  const { url, closed } = await serve({
    ...nounsOver(store),
    host: '127.0.0.1',
    port: 0,
    signal: stop.signal,
    drainMs: 200,
    keys: () => [],
    version: '0.0.0',
  });
  return {
    url,
    async stop() {
      stop.abort();
      await closed;
    },
  };
}

/** Jobs that ask an endpoint over a network. `binary`: the built ones, whose time limits are the usual ones. */
export async function httpLine(directory: string, name: string): Promise<Line> {
  const store = await openLocalStore(path.join(directory, name));
  const endpoint = await endpointOver(store);
  const way = await openBadWay([endpoint.url]);
  const [url = ''] = way.urls;
  const binary = name.startsWith('binary');
  return {
    name: binary ? 'the built job to an endpoint' : 'a job to an endpoint',
    // A minute for each stall, which is for who has the time.
    faults: binary ? networkFaults.filter((fault) => !fault.startsWith('stall')) : networkFaults,
    times: binary ? [1, always] : [1, 2, always],
    jobs: [...jobFlows, firstUpload],
    requests: [],
    store,
    begin: (plan) => way.begin(plan),
    count: () => way.requests(),
    run: (box, job, past) =>
      binary && past === undefined ? runBinary(box, job, url) : box.run(job, doorsTo(url, past)),
    async close() {
      await way.stop();
      await endpoint.stop();
      await store.close();
    },
  };
}

/** An endpoint whose store throws: asked by requests, which take no time, or by jobs. */
export async function throwingLine(directory: string, by: 'requests' | 'jobs'): Promise<Line> {
  const store = await openLocalStore(path.join(directory, `throwing-${by}`));
  const bad = throwing(store);
  const endpoint = await endpointOver(bad);
  return {
    name:
      by === 'requests' ? 'the endpoint to a store that throws' : 'a job to an endpoint whose store throws',
    faults: storeFaults,
    times: [1, always],
    jobs: by === 'jobs' ? jobFlows : [],
    requests: by === 'requests' ? requestFlows : [],
    store,
    begin: (plan) => bad.begin(plan),
    count: () => bad.calls(),
    run: (box, job) => box.run(job, doorsTo(endpoint.url, 'past')),
    served: servedOver(bad),
    async close() {
      await endpoint.stop();
      await store.close();
    },
  };
}

/** A job, and the endpoint, to Azure. `first`: to an account that has no containers and tables yet. */
export async function azureLine(azurite: Azurite, prefix: string, first: boolean): Promise<Line> {
  const way = await openBadWay([azurite.blobs, azurite.tables]);
  const [blobs = '', tables = ''] = way.urls;
  let generation = 0;
  const options = (limit?: number) => ({
    connectionString: connectionStringOf(blobs, tables),
    prefix: `${prefix}${generation}`,
    ...(limit === undefined ? {} : { timeoutMs: limit }),
  });
  const trueOptions = () => ({
    connectionString: azurite.connectionString,
    prefix: `${prefix}${generation}`,
  });
  const bad = first ? undefined : await openAzureStore(options(requestMs));
  const doors = (limit?: number): Doors => ({
    openNexus: async () => openSessions(await openAzureStore(options(limit))),
    openMailbox: async () => openWebhooks(await openAzureStore(options(limit))),
  });
  const line: Line = {
    name: first ? 'a first job to an empty Azure' : 'a job or the endpoint to Azure',
    faults: networkFaults,
    times: [1, always],
    jobs: first ? [firstUpload] : jobFlows,
    requests: first ? [] : requestFlows,
    store: await openAzureStore(trueOptions()),
    begin: (plan) => way.begin(plan),
    count: () => way.requests(),
    run: (box, job, past) => box.run(job, doors(past === undefined ? callMs : undefined)),
    ...(bad === undefined ? {} : { served: servedOver(bad) }),
    async close() {
      await line.store.close();
      await bad?.close();
      await way.stop();
    },
  };
  if (first)
    line.fresh = async () => {
      await line.store.close();
      generation++;
      line.store = await openAzureStore(trueOptions());
    };
  return line;
}
