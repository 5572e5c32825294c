import * as z from 'zod';
import { NexusError } from './errors.ts';

/** What sums can be taken by. `job` is a cron job's id, `source` the sender of the webhook that began a session. */
export const dimensions = [
  'agent',
  'day',
  'week',
  'month',
  'model',
  'provider',
  'session',
  'trigger',
  'host',
  'job',
  'source',
] as const;

export type Dimension = (typeof dimensions)[number];

/** One value or several, in a list or with commas between them. */
const several = z
  .union([z.string(), z.array(z.string())], { error: 'must be text, or a list of texts' })
  .transform((said) =>
    (Array.isArray(said) ? said : said.split(',')).map((one) => one.trim()).filter(Boolean),
  );

/** As filters have them. What is empty would choose nothing, or pass for no filter. */
const named = several.refine((names) => names.length > 0, { error: 'must not be empty' });

const when = z
  .string({ error: 'must be a date or a time' })
  .regex(/^\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?(?:Z|[+-]\d\d:\d\d)?)?$/, {
    error: 'must be a date like "2026-11-23" or a time like "2026-11-23T09:00"',
  })
  .refine((said) => exists(said.slice(0, 10)) && !Number.isNaN(Date.parse(said)), {
    error: 'must be a date or a time that exists',
  });

/** Date.parse takes the 30th of February for the 2nd of March. */
function exists(date: string): boolean {
  const at = Date.parse(`${date}T00:00Z`);
  return !Number.isNaN(at) && new Date(at).toISOString().startsWith(date);
}

const filters = {
  agent: named.optional(),
  model: named.optional(),
  provider: named.optional(),
  trigger: named.optional(),
  host: named.optional(),
  job: named.optional(),
  source: named.optional(),
  /** `agent/session`, or a session's name alone. */
  session: named.optional(),
};

const period = {
  /** A date, or a time on a quarter of an hour; without an offset it is in `tz`. */
  from: when.optional(),
  /** A date, which is still within, or a time, which is not. */
  to: when.optional(),
  /** `7d`: so many days, today with them. */
  last: z
    .string({ error: 'must be a number of days, like "7d"' })
    .regex(/^[1-9]\d{0,3}[dw]$/, { error: 'must be a number of days or weeks, like "7d" or "4w"' })
    .optional(),
  /** IANA name. When not said: the one that usage was opened with. */
  tz: z.string({ error: 'must be a time zone' }).min(1, { error: 'must not be empty' }).max(80).optional(),
};

/** What is asked of the ledger, by the command line and over HTTP. */
export const usageRequestSchema = z.strictObject({
  by: several.pipe(z.array(z.enum(dimensions, { error: `must be of ${dimensions.join(', ')}` }))).default([]),
  ...period,
  ...filters,
});

export const sessionOrders = ['cost', 'tokens', 'calls', 'start', 'end'] as const;

export const sessionsRequestSchema = z.strictObject({
  ...period,
  ...filters,
  /** Part of the session key or of the session's name, in any case. */
  text: z.string().max(200).optional(),
  /** Also those that have called no model, at no time. */
  uncalled: z.boolean().default(false),
  order: z.enum(sessionOrders, { error: `must be one of ${sessionOrders.join(', ')}` }).default('cost'),
  ascending: z.boolean().default(false),
  limit: z.int().min(1).max(1000).default(50),
  offset: z.int().min(0).default(0),
});

export type UsageRequest = z.input<typeof usageRequestSchema>;
export type SessionsRequest = z.input<typeof sessionsRequestSchema>;
export type Period = Pick<z.output<typeof usageRequestSchema>, 'from' | 'to' | 'last' | 'tz'>;
export type Filters = Pick<z.output<typeof usageRequestSchema>, keyof typeof filters>;
export const filterNames = [
  'agent',
  'model',
  'provider',
  'trigger',
  'host',
  'job',
  'source',
  'session',
] as const;

/** `invalid` that names each wrong field. */
export function parsed<Schema extends z.ZodType>(schema: Schema, given: unknown): z.output<Schema> {
  const result = schema.safeParse(given);
  if (result.success) return result.data;
  const wrong = result.error.issues.map((issue) =>
    issue.code === 'unrecognized_keys'
      ? `${issue.keys.join(', ')} is nothing that can be asked for`
      : `${String(issue.path[0] ?? '')} ${issue.message.startsWith('must ') ? issue.message : `is refused: ${issue.message}`}`,
  );
  throw new NexusError('invalid', `The request is wrong: ${wrong.join('; ')}.`);
}
