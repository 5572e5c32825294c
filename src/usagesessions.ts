import type { DatabaseSync, SQLInputValue, SQLOutputValue } from 'node:sqlite';
import type { PriceTable } from './prices.ts';
import type { Oddity } from './usagerecord.ts';
import { preparePrices } from './usageprices.ts';
import {
  choose,
  fromSql,
  rawFields,
  rawOf,
  type Sums,
  sumsOf,
  sumsSql,
  type Surroundings,
  uncountedIn,
} from './usagequery.ts';
import {
  parsed,
  type SessionsRequest,
  sessionsRequestSchema,
  type UsageRequest,
  usageRequestSchema,
} from './usagerequest.ts';

type SqlRow = Record<string, SQLOutputValue>;

/** One session, with its sums over what was asked for. Times are ISO 8601, UTC. */
export interface SessionUsage extends Sums {
  agent: string;
  session: string;
  key?: string;
  trigger?: string;
  host?: string;
  /** Id of the cron job. */
  job?: string;
  /** Id of the batch of webhook items that began it, and their sender. */
  batch?: string;
  source?: string;
  start?: string;
  end?: string;
  /** Its histories in the archive: `X`, `X~2`, …, and their bytes. */
  transcripts: { transcript: string; bytes: number }[];
  oddities: Partial<Record<Oddity, number>>;
}

export interface SessionsAnswer {
  sessions: SessionUsage[];
  /** How many there are without `limit`. */
  found: number;
  uncounted: number;
}

export interface Top {
  sessions: SessionUsage[];
  uncounted: number;
  /** `medianCost` and `cost` are of the runs whose cost is known, and `null` where that is of none. */
  jobs: {
    agent: string;
    job: string;
    runs: number;
    medianCost: number | null;
    cost: number | null;
    total: number;
  }[];
  /** Runs of cron jobs that cost over twice the median of their job, the costliest first. */
  outliers: { agent: string; job: string; session: string; cost: number; median: number }[];
}

export interface ItemCost {
  /** Sessions that the item began, as `agent/session`. */
  sessions: string[];
  /** Of those sessions together. */
  sums: Sums;
  /** How many items those sessions were told of: the cost is that of all of them. */
  items: number;
}

const longestTop = 10;
/** From so many runs on a job has a median that says something. */
const fewestRuns = 3;

export function listSessions(
  db: DatabaseSync,
  request: SessionsRequest,
  prices: PriceTable,
  surroundings: Surroundings,
): SessionsAnswer {
  const { text, uncalled, order, ascending, limit, offset, ...asked } = parsed(
    sessionsRequestSchema,
    request,
  );
  const chosen = choose(asked, surroundings);
  const { where, values } = chosen;
  preparePrices(db, prices);
  const named = text === undefined || text === '' ? undefined : text.toLowerCase();
  const texts = named === undefined ? [] : [named, named];
  const isNamed =
    named === undefined
      ? 'true'
      : "(instr(lower(coalesce(s.key, '')), ?) > 0 OR instr(lower(s.name), ?) > 0)";
  // What is asked of calls leaves out who has none.
  const others = uncalled && asked.model === undefined && asked.provider === undefined;
  const by = {
    cost: 'recorded + estimated',
    tokens: 'input + output + cacheRead + cacheWrite',
    calls: 'calls',
    start: 'started',
    end: 'ended',
  }[order];
  const direction = ascending ? 'ASC' : 'DESC';
  const rows = db
    .prepare(
      `WITH found AS (${sessionsSql(`${where} AND ${isNamed}`)}
         ${others ? `UNION ALL ${uncalledSql(`${chosen.sessions.where} AND ${isNamed}`)}` : ''})
       SELECT *, count(*) OVER () AS found FROM found
       ORDER BY ${by} ${direction}, agent, session LIMIT ? OFFSET ?`,
    )
    .all(...values, ...texts, ...(others ? [...chosen.sessions.values, ...texts] : []), limit, offset);
  return {
    sessions: rows.map((row) => sessionFrom(db, row)),
    found: Number(rows[0]?.['found'] ?? 0),
    uncounted: uncountedIn(db, chosen),
  };
}

const describedSql = `s.id AS id, a.name AS agent, s.name AS session, s.key AS key, s.trigger AS trigger, s.host AS host,
      s.job AS job, s.batch AS batch, s.source AS source, s.started_at AS started, s.ended_at AS ended`;

function sessionsSql(where: string): string {
  return `SELECT ${describedSql}, ${sumsSql} FROM ${fromSql} WHERE ${where} GROUP BY s.id`;
}

/** The same columns, of sessions that no call is counted for. */
function uncalledSql(where: string): string {
  return `SELECT ${describedSql}, ${rawFields.map(() => '0.0').join(', ')} FROM sessions s JOIN agents a ON a.id = s.agent
    WHERE ${where} AND NOT EXISTS (SELECT 1 FROM rollup r WHERE r.session = s.id)`;
}

function sessionFrom(db: DatabaseSync, row: SqlRow): SessionUsage {
  const id = Number(row['id']);
  const transcripts = db
    .prepare('SELECT name, length FROM transcripts WHERE session = ? ORDER BY length(name), name')
    .all(id);
  const odd = db
    .prepare(
      `SELECT kind, sum(count) AS count FROM odd WHERE transcript IN (SELECT id FROM transcripts WHERE session = ?)
       GROUP BY kind`,
    )
    .all(id);
  const said = ['key', 'trigger', 'host', 'job', 'batch', 'source'].flatMap((field) =>
    row[field] === null ? [] : [[field, String(row[field])]],
  );
  const times = [
    ['start', row['started']],
    ['end', row['ended']],
  ].flatMap(([field, at]) => (typeof at === 'number' ? [[field, new Date(at).toISOString()]] : []));
  return {
    agent: String(row['agent']),
    session: String(row['session']),
    ...Object.fromEntries([...said, ...times]),
    transcripts: transcripts.map(({ name, length }) => ({ transcript: String(name), bytes: Number(length) })),
    oddities: Object.fromEntries(odd.map(({ kind, count }) => [String(kind), Number(count)])),
    ...sumsOf(rawOf(row)),
  };
}

export function topOf(
  db: DatabaseSync,
  request: UsageRequest,
  prices: PriceTable,
  surroundings: Surroundings,
): Top {
  const { by: _, ...asked } = parsed(usageRequestSchema, request);
  const { sessions, uncounted } = listSessions(db, { ...asked, limit: longestTop }, prices, surroundings);
  const { where, values } = choose(asked, surroundings);
  const runs = new Map<string, { agent: string; job: string; runs: { session: string; sums: Sums }[] }>();
  for (const row of db.prepare(sessionsSql(`${where} AND s.job IS NOT NULL`)).all(...values)) {
    const [agent, job] = [String(row['agent']), String(row['job'])];
    const key = `${agent}\n${job}`;
    const known = runs.get(key) ?? { agent, job, runs: [] };
    known.runs.push({ session: String(row['session']), sums: sumsOf(rawOf(row)) });
    runs.set(key, known);
  }
  const jobs = [...runs.values()].map((job) => {
    const costs = job.runs
      .flatMap(({ sums }) => (sums.cost === null ? [] : [sums.cost]))
      .sort((one, other) => one - other);
    const isKnown = costs.length > 0;
    return {
      ...job,
      known: costs.length,
      medianCost: isKnown ? medianOf(costs) : null,
      cost: isKnown ? costs.reduce((sum, cost) => sum + cost, 0) : null,
      total: job.runs.reduce((sum, { sums }) => sum + sums.total, 0),
    };
  });
  const outliers = jobs.flatMap(({ agent, job, runs: all, known, medianCost: median }) =>
    median === null || known < fewestRuns
      ? []
      : all.flatMap(({ session, sums }) =>
          (sums.cost ?? 0) > 2 * median ? [{ agent, job, session, cost: sums.cost ?? 0, median }] : [],
        ),
  );
  return {
    sessions,
    uncounted,
    jobs: jobs
      .sort((one, other) => (other.cost ?? 0) - (one.cost ?? 0) || other.total - one.total)
      .slice(0, longestTop)
      .map(({ agent, job, runs: all, medianCost, cost, total }) => ({
        agent,
        job,
        runs: all.length,
        medianCost,
        cost,
        total,
      })),
    outliers: outliers.sort((one, other) => other.cost - one.cost).slice(0, longestTop),
  };
}

function medianOf(sorted: readonly number[]): number {
  const middle = sorted.length / 2;
  const [low, high] = [sorted[Math.ceil(middle) - 1] ?? 0, sorted[Math.floor(middle)] ?? 0];
  return (low + high) / 2;
}

/** Ids of the items that began a session, `agent/session`. */
export function itemsOf(db: DatabaseSync, session: string): string[] {
  return db
    .prepare(
      `SELECT DISTINCT i.item FROM items i JOIN transcripts t ON t.id = i.transcript
       JOIN sessions s ON s.id = t.session JOIN agents a ON a.id = s.agent
       WHERE a.name || '/' || s.name = ? AND s.batch IS NOT NULL ORDER BY i.item`,
    )
    .all(session)
    .map(({ item }) => String(item));
}

export function itemCost(db: DatabaseSync, item: string, prices: PriceTable): ItemCost | undefined {
  preparePrices(db, prices);
  const sessions = db
    .prepare(
      `SELECT DISTINCT s.id, a.name || '/' || s.name AS name FROM items i
       JOIN transcripts t ON t.id = i.transcript JOIN sessions s ON s.id = t.session
       JOIN agents a ON a.id = s.agent WHERE i.item = ? AND s.batch IS NOT NULL ORDER BY name`,
    )
    .all(item);
  if (sessions.length === 0) return undefined;
  const ids: SQLInputValue[] = sessions.map(({ id }) => Number(id));
  const marks = ids.map(() => '?').join(', ');
  const row = db.prepare(`SELECT ${sumsSql} FROM ${fromSql} WHERE s.id IN (${marks})`).get(...ids) ?? {};
  const items = db
    .prepare(
      `SELECT count(DISTINCT i.item) AS n FROM items i JOIN transcripts t ON t.id = i.transcript
       WHERE t.session IN (${marks})`,
    )
    .get(...ids);
  return {
    sessions: sessions.map(({ name }) => String(name)),
    sums: sumsOf(rawOf(row)),
    items: Number(items?.['n']),
  };
}
