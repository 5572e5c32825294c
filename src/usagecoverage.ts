import type { DatabaseSync } from 'node:sqlite';
import { factIn } from './usagefile.ts';
import { isOddity, type Oddity, uncounted } from './usagerecord.ts';
import type { Standing } from './usage.ts';

/** What the sums rest on. */
export interface Coverage {
  transcripts: number;
  /** Stored, as far as is known, and read of that. */
  bytes: number;
  bytesRead: number;
  /** Transcripts that have changed and have not been read to their end. */
  unread: number;
  /** Transcripts that could not be read at the last try; at most ten are named. */
  unreadable: { count: number; examples: { agent: string; transcript: string; reason: string }[] };
  /** Records that could not be counted, or not as they are, by kind. */
  oddities: { kind: Oddity; count: number; example: { agent: string; transcript: string; line: number } }[];
}

const examples = 10;

/** Within one reading of the index; with `within`, of these agents alone. */
export function coverageOf(db: DatabaseSync, within?: readonly string[]): Standing {
  const agents = within ?? [];
  const marks = agents.map(() => '?').join(', ');
  const only = (agent: string): string => (within === undefined ? 'true' : `${agent} IN (${marks})`);
  const row = db
    .prepare(
      `SELECT count(*) AS transcripts, total(length) AS bytes, total(read_to) AS bytesRead,
         count(CASE WHEN read_to < length THEN 1 END) AS behind, count(unreadable) AS unreadable FROM transcripts
       WHERE ${only('agent')}`,
    )
    .get(...agents);
  const unnamed = Number(
    db
      .prepare(
        `SELECT count(*) AS n FROM pending p LEFT JOIN transcripts t ON t.agent = p.agent AND t.name = p.name
         WHERE (t.id IS NULL OR t.read_to >= t.length) AND ${only('p.agent')}`,
      )
      .get(...agents)?.['n'],
  );
  const unreadable = db
    .prepare(
      `SELECT agent, name, unreadable FROM transcripts WHERE unreadable IS NOT NULL AND ${only('agent')}
       ORDER BY agent, name LIMIT ?`,
    )
    .all(...agents, examples)
    .map((one) => ({
      agent: String(one['agent']),
      transcript: String(one['name']),
      reason: String(one['unreadable']),
    }));
  const oddities = db
    .prepare(
      `SELECT o.kind, sum(o.count) AS count, min(t.agent || '/' || t.name || '/' || o.line) AS example
       FROM odd o JOIN transcripts t ON t.id = o.transcript WHERE ${only('t.agent')}
       GROUP BY o.kind ORDER BY o.kind`,
    )
    .all(...agents)
    .flatMap((one) => {
      const { kind } = one;
      if (!isOddity(kind)) return [];
      const [agent = '', transcript = '', line = ''] = String(one['example']).split('/');
      return [{ kind, count: Number(one['count']), example: { agent, transcript, line: Number(line) } }];
    });
  const lookedAt = factIn(db, 'looked_at');
  const count = Number(row?.['unreadable']);
  const unread = Number(row?.['behind']) + unnamed;
  return {
    asOf: lookedAt === undefined ? null : new Date(Number(lookedAt)).toISOString(),
    complete: lookedAt !== undefined && unread === 0 && count === 0,
    uncounted: oddities
      .filter(({ kind }) => uncounted.some((one) => one === kind))
      .reduce((sum, one) => sum + one.count, 0),
    coverage: {
      transcripts: Number(row?.['transcripts']),
      bytes: Number(row?.['bytes']),
      bytesRead: Number(row?.['bytesRead']),
      unread,
      unreadable: { count, examples: unreadable },
      oddities,
    },
  };
}
