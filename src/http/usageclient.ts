import * as z from 'zod';
import { failedWith, NexusError } from '../errors.ts';
import type { ItemCost } from '../usagesessions.ts';
import type { SessionsRequest, UsageRequest } from '../usagerequest.ts';
import { dimensions } from '../usagerequest.ts';
import { isOddity } from '../usagerecord.ts';
import type { Standing, Usage } from '../usage.ts';
import { type ClientOptions, openConnection } from './connection.ts';

/** What can be asked of the usage that an endpoint keeps. */
export type UsageReader = Pick<Usage, 'query' | 'sessions' | 'top' | 'costOf' | 'close'>;

const count = z.number();
const cost = z.number().nullable();
const sums = {
  calls: count,
  input: count,
  output: count,
  cacheRead: count,
  cacheWrite: count,
  total: count,
  cost,
  costRecorded: count,
  costEstimated: count,
  costCoverage: z.object({ recorded: count, estimated: count, unpriced: count }),
};
const oddity = z.string().refine(isOddity);
const standing = {
  asOf: z.string().nullable(),
  complete: z.boolean(),
  uncounted: count,
  lostPrices: count.exactOptional(),
  coverage: z.object({
    transcripts: count,
    bytes: count,
    bytesRead: count,
    unread: count,
    unreadable: z.object({
      count,
      examples: z.array(z.object({ agent: z.string(), transcript: z.string(), reason: z.string() })),
    }),
    oddities: z.array(
      z.object({
        kind: oddity,
        count,
        example: z.object({ agent: z.string(), transcript: z.string(), line: count }),
      }),
    ),
  }),
};
const labels = Object.fromEntries(dimensions.map((name) => [name, z.string().exactOptional()]));
const querySchema = z.object({
  rows: z.array(z.object({ ...labels, ...sums })),
  totals: z.object(sums),
  ...standing,
});
const text = z.string().exactOptional();
const session = z.object({
  agent: z.string(),
  session: z.string(),
  key: text,
  trigger: text,
  host: text,
  job: text,
  batch: text,
  source: text,
  start: text,
  end: text,
  transcripts: z.array(z.object({ transcript: z.string(), bytes: count })),
  oddities: z.partialRecord(oddity, count),
  ...sums,
});
const sessionsSchema = z.object({ sessions: z.array(session), found: count, ...standing });
const named = { agent: z.string(), job: z.string() };
const topSchema = z.object({
  sessions: z.array(session),
  jobs: z.array(z.object({ ...named, runs: count, medianCost: cost, cost, total: count })),
  outliers: z.array(z.object({ ...named, session: z.string(), cost: count, median: count })),
  ...standing,
});
const itemSchema = z.object({ sessions: z.array(z.string()), sums: z.object(sums), items: count });

/** The ledger that an endpoint keeps. It says itself how far it has read. */
export function openUsageClient(options: ClientOptions): UsageReader {
  const connection = openConnection(options);

  async function ask<T>(
    schema: z.ZodType<T>,
    path: string,
    request: UsageRequest | SessionsRequest = {},
  ): Promise<T> {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(request)) {
      if (value === undefined) continue;
      const values: readonly unknown[] = Array.isArray(value) ? value : [value];
      for (const one of values) query.append(name, String(one));
      // Alone it would be read as several with commas between them; given twice it is a list.
      const [only] = values;
      if (Array.isArray(value) && values.length === 1 && String(only).includes(','))
        query.append(name, String(only));
      if (values.length === 0) query.set(name, '');
    }
    const said = query.size === 0 ? '' : `?${query.toString()}`;
    return (await connection.json(schema, { method: 'GET', path: `${path}${said}`, expect: [200] })).value;
  }

  async function whole<T extends Standing>(
    schema: z.ZodType<T>,
    path: string,
    request: UsageRequest | SessionsRequest,
  ): Promise<T> {
    try {
      return await ask(schema, path, request);
    } catch (error) {
      if (!failedWith(error, 'not_found')) throw error;
      throw new NexusError('not_found', `The endpoint ${connection.endpoint.base} tells nothing of usage.`, {
        hint: 'Its Nexus is older than this one: upgrade it.',
        cause: error,
      });
    }
  }

  return {
    query: (request: UsageRequest) => whole(querySchema, '/api/usage', request),
    sessions: (request: SessionsRequest) => whole(sessionsSchema, '/api/usage/sessions', request),
    top: (request: UsageRequest) => whole(topSchema, '/api/usage/top', request),
    async costOf(item): Promise<ItemCost | undefined> {
      try {
        return await ask(itemSchema, `/api/usage/items/${encodeURIComponent(item)}`);
      } catch (error) {
        if (failedWith(error, 'not_found')) return undefined;
        throw error;
      }
    },
    close: () => Promise.resolve(),
  };
}
