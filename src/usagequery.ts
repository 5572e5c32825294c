import type { DatabaseSync, SQLInputValue, SQLOutputValue } from 'node:sqlite';
import { NexusError } from './errors.ts';
import type { PriceTable } from './prices.ts';
import { costKinds, quarterMs } from './usagecount.ts';
import { dayLabel, type Days, daysIn, monthLabel, weekLabel } from './usagedays.ts';
import { preparePrices, priceJoin } from './usageprices.ts';
import { uncounted } from './usagerecord.ts';
import {
  type Dimension,
  filterNames,
  type Filters,
  type Period,
  parsed,
  type UsageRequest,
  usageRequestSchema,
} from './usagerequest.ts';

/** Tokens, and cost in dollars. */
export interface Sums {
  calls: number;
  input: number;
  output: number;
  cacheRead: number;
  cacheWrite: number;
  /** The four together. */
  total: number;
  /** Recorded and estimated; `null` where there are calls and no price is known of any. */
  cost: number | null;
  costRecorded: number;
  costEstimated: number;
  /** Calls, by what their cost rests on. */
  costCoverage: { recorded: number; estimated: number; unpriced: number };
}

export type UsageRow = Partial<Record<Dimension, string>> & Sums;

const quartersOfDay = 86_400_000 / quarterMs;

/** Sums in integers: tokens, and billionths of dollars. */
interface Raw {
  calls: number;
  input: number;
  output: number;
  cacheRead: number;
  cacheWrite: number;
  recorded: number;
  estimated: number;
  recordedCalls: number;
  estimatedCalls: number;
}

/** The columns of `sumsSql`, in its order. */
export const rawFields = [
  'calls',
  'input',
  'output',
  'cacheRead',
  'cacheWrite',
  'recorded',
  'estimated',
  'recordedCalls',
  'estimatedCalls',
] as const satisfies (keyof Raw)[];

const free = `(r.kind = ${costKinds.zero} AND p.free = 1)`;
const priced = `(r.kind <> ${costKinds.recorded} AND p.input IS NOT NULL AND NOT ${free})`;

/** What a query sums, as SQL over `rollup r` and the price `p` of its row, each rounded to a billionth of a dollar. */
export const sumsSql = `
  total(r.calls) AS calls, total(r.input) AS input, total(r.output) AS output,
  total(r.cache_read) AS cacheRead, total(r.cache_write) AS cacheWrite, total(r.cost) AS recorded,
  total(CASE WHEN ${priced} THEN round((r.input * p.input + r.output * p.output
    + r.cache_read * p.cache_read + r.cache_write * p.cache_write) * 1000) END) AS estimated,
  total(CASE WHEN r.kind = ${costKinds.recorded} OR ${free} THEN r.calls END) AS recordedCalls,
  total(CASE WHEN ${priced} THEN r.calls END) AS estimatedCalls`;

export const fromSql = `rollup r
  JOIN sessions s ON s.id = r.session JOIN agents a ON a.id = s.agent JOIN models m ON m.id = r.model
  ${priceJoin}`;

const labels: Record<Exclude<Dimension, 'day' | 'week' | 'month'>, string> = {
  agent: 'a.name',
  model: "CASE m.model WHEN '' THEN 'unknown' ELSE m.model END",
  provider: "CASE m.provider WHEN '' THEN 'unknown' ELSE m.provider END",
  session: "a.name || '/' || s.name",
  trigger: "coalesce(s.trigger, 'unknown')",
  host: "coalesce(s.host, 'unknown')",
  job: "coalesce(s.job, 'none')",
  source: "coalesce(s.source, 'none')",
};

const dayLabels = { day: dayLabel, week: weekLabel, month: monthLabel };

function isTime(dimension: Dimension): dimension is keyof typeof dayLabels {
  return dimension in dayLabels;
}

/** What an answer goes by beside the request. */
export interface Surroundings {
  now: Date;
  timeZone: string;
  /** The only agents that the answer knows of; not said: all. */
  within?: readonly string[] | undefined;
}

/** Which rows of the rollup are asked for. */
export interface Chosen {
  where: string;
  values: SQLInputValue[];
  days: Days;
  /** The sessions that rows may be of, as SQL over `sessions s` and `agents a`. */
  sessions: { where: string; values: SQLInputValue[] };
  /** ms since 1970. */
  period: { from: number | undefined; to: number | undefined };
}

/** The sums that were asked for, and their total; `invalid` for a request that makes no sense. */
export function sumUp(
  db: DatabaseSync,
  request: UsageRequest,
  prices: PriceTable,
  surroundings: Surroundings,
): { rows: UsageRow[]; totals: Sums; uncounted: number } {
  const { by, ...asked } = parsed(usageRequestSchema, request);
  const chosen = choose(asked, surroundings);
  preparePrices(db, prices);
  const groups = [...new Set(by)];
  const timed = groups.some(isTime);
  const columns = groups.flatMap((group) => (isTime(group) ? [] : [`${labels[group]} AS "by_${group}"`]));
  if (timed) columns.push(`${daySql(db, chosen)} AS day`);
  const keys = columns.map((_, nth) => nth + 1).join(', ');
  const found = db
    .prepare(
      `SELECT ${[...columns, sumsSql].join(', ')} FROM ${fromSql} WHERE ${chosen.where}
       ${keys === '' ? '' : `GROUP BY ${keys}`}`,
    )
    .all(...chosen.values);
  const rows = new Map<string, { labels: Partial<Record<Dimension, string>>; raw: Raw }>();
  const totals = nothing();
  for (const row of found) {
    const said = Object.fromEntries(
      groups.map((group) => [
        group,
        isTime(group) ? dayLabels[group](Number(row['day'])) : String(row[`by_${group}`]),
      ]),
    );
    const raw = rawOf(row);
    add(totals, raw);
    const key = JSON.stringify(said);
    const known = rows.get(key);
    if (known === undefined) rows.set(key, { labels: said, raw });
    else add(known.raw, raw);
  }
  const sorted = [...rows].sort(([one], [other]) => (one < other ? -1 : 1)).map(([, row]) => row);
  return {
    rows: groups.length === 0 ? [] : sorted.map(({ labels: said, raw }) => ({ ...said, ...sumsOf(raw) })),
    totals: sumsOf(totals),
    uncounted: uncountedIn(db, chosen),
  };
}

/** A request's filters and period as SQL. */
export function choose(asked: Filters & Period, { now, timeZone, within }: Surroundings): Chosen {
  const days = daysIn(asked.tz ?? timeZone);
  const rows: Condition[] = [];
  const sessions: Condition[] = [];
  const marks = (values: readonly string[]) => values.map(() => '?').join(', ');
  if (within !== undefined) sessions.push([`a.name IN (${marks(within)})`, ...within]);
  for (const name of filterNames) {
    const wanted = asked[name];
    if (wanted === undefined) continue;
    const is = `${labels[name]} IN (${marks(wanted)})`;
    if (name === 'model' || name === 'provider') rows.push([is, ...wanted]);
    else if (name === 'session')
      sessions.push([`(${is} OR s.name IN (${marks(wanted)}))`, ...wanted, ...wanted]);
    else sessions.push([is, ...wanted]);
  }
  const period = periodOf(asked, days, now);
  const { from, to } = period;
  if (from !== undefined) rows.push(['r.quarter >= ?', from / quarterMs]);
  if (to !== undefined) rows.push(['r.quarter < ?', to / quarterMs]);
  // A session without a time may have been at any.
  const during: Condition[] = [
    ...(from === undefined ? [] : [['coalesce(s.ended_at >= ?, true)', from] satisfies Condition]),
    ...(to === undefined ? [] : [['coalesce(s.started_at < ?, true)', to] satisfies Condition]),
  ];
  return {
    ...joined([...sessions, ...rows]),
    sessions: joined([...sessions, ...during]),
    days,
    period,
  };
}

type Condition = [sql: string, ...values: SQLInputValue[]];

function joined(conditions: readonly Condition[]): { where: string; values: SQLInputValue[] } {
  return {
    where: conditions.length === 0 ? 'true' : conditions.map(([sql]) => sql).join(' AND '),
    values: conditions.flatMap(([, ...values]) => values),
  };
}

/** Lines of the sessions that are asked for which should be in these sums and are in none. */
export function uncountedIn(db: DatabaseSync, { sessions: { where, values } }: Chosen): number {
  const row = db
    .prepare(
      `SELECT total(o.count) AS n FROM odd o JOIN transcripts t ON t.id = o.transcript
       JOIN sessions s ON s.id = t.session JOIN agents a ON a.id = s.agent
       WHERE o.kind IN (${uncounted.map(() => '?').join(', ')}) AND ${where}`,
    )
    .get(...uncounted, ...values);
  return Number(row?.['n']);
}

function periodOf(
  { from, to, last }: Period,
  days: Days,
  now: Date,
): { from: number | undefined; to: number | undefined } {
  if (last !== undefined) {
    if (from !== undefined || to !== undefined)
      throw new NexusError('invalid', 'A request has either `last`, or `from` and `to`.');
    const count = Number(last.slice(0, -1)) * (last.endsWith('w') ? 7 : 1);
    const today = Math.floor((now.getTime() + days.offset(now.getTime())) / 86_400_000);
    return { from: days.begin(dayLabel(today - count + 1)), to: undefined };
  }
  const period = {
    from: from === undefined ? undefined : instant(from, days),
    // The day that is named is still within.
    to: to === undefined ? undefined : to.length === 10 ? days.begin(nextDay(to)) : instant(to, days),
  };
  if (period.from !== undefined && period.to !== undefined && period.from >= period.to)
    throw new NexusError('invalid', `Nothing lies between ${from} and ${to}.`);
  return period;
}

function nextDay(date: string): string {
  return dayLabel(Date.parse(`${date}T00:00Z`) / 86_400_000 + 1);
}

function instant(said: string, days: Days): number {
  const at = /Z$|[+-]\d\d:\d\d$/.test(said) ? Date.parse(said) : days.begin(said);
  if (at % quarterMs === 0) return at;
  throw new NexusError('invalid', `${said} is not on a quarter of an hour, by which sums are kept.`, {
    hint: 'Say a time like 09:00, 09:15, 09:30 or 09:45.',
  });
}

/** Whatever an index holds, offsets are asked for within these. */
const earliest = Date.UTC(2000, 0, 1);
const latest = Date.UTC(2100, 0, 1);

/** The local day of `r.quarter`, as days since 1970-01-01. */
function daySql(db: DatabaseSync, { days, period }: Pick<Chosen, 'days' | 'period'>): string {
  const row = db.prepare('SELECT min(quarter) AS least, max(quarter) AS most FROM rollup').get();
  const within = (said: unknown, least: number, most: number) =>
    Math.min(Math.max(Number(said ?? 0) * quarterMs, least), most);
  const least = within(row?.['least'], period.from ?? earliest, latest);
  const stretches = days.stretches(least, within(row?.['most'], least, period.to ?? latest));
  const [first, ...others] = stretches.map(({ from, offset }) => ({
    from: Math.ceil(from / quarterMs),
    offset: Math.floor(offset / quarterMs),
  }));
  const cases = others.toReversed().map(({ from, offset }) => `WHEN r.quarter >= ${from} THEN ${offset}`);
  const offset =
    cases.length === 0 ? `${first?.offset ?? 0}` : `CASE ${cases.join(' ')} ELSE ${first?.offset ?? 0} END`;
  // Far before anybody's first call: integers are cut towards zero.
  return `(r.quarter + ${offset}) / ${quartersOfDay}`;
}

/** The columns of `sumsSql`. */
export function rawOf(row: Record<string, SQLOutputValue>): Raw {
  const raw = nothing();
  for (const field of rawFields) raw[field] = Number(row[field]);
  return raw;
}

function nothing(): Raw {
  return {
    calls: 0,
    input: 0,
    output: 0,
    cacheRead: 0,
    cacheWrite: 0,
    recorded: 0,
    estimated: 0,
    recordedCalls: 0,
    estimatedCalls: 0,
  };
}

function add(sum: Raw, other: Raw): void {
  for (const field of rawFields) sum[field] += other[field];
}

export function sumsOf(raw: Raw): Sums {
  const { calls, input, output, cacheRead, cacheWrite, recorded, estimated } = raw;
  const unpriced = calls - raw.recordedCalls - raw.estimatedCalls;
  return {
    calls,
    input,
    output,
    cacheRead,
    cacheWrite,
    total: input + output + cacheRead + cacheWrite,
    cost: calls > 0 && unpriced === calls ? null : (recorded + estimated) / 1e9,
    costRecorded: recorded / 1e9,
    costEstimated: estimated / 1e9,
    costCoverage: { recorded: raw.recordedCalls, estimated: raw.estimatedCalls, unpriced },
  };
}
