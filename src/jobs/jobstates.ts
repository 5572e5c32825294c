import type { DatabaseSync } from 'node:sqlite';
import { type JobReport, jobReportSchema } from '../jobreports.ts';
import type { Verdict } from './streak.ts';

/** How a run ended, for those who watch. */
export type RunEnd = Pick<JobReport, 'job' | 'endedAt' | 'seconds' | 'failedItems' | 'agents'> & {
  verdict: Exclude<Verdict, 'neither'>;
};

/** The part of the ledger that says how each job stands, of all runs ever. Losing it begins the counts anew. */
export interface JobStates {
  /** One more run has ended: how its job stands now. */
  noteEnd: (end: RunEnd) => JobReport;
  /** As each job stood after its last run. */
  jobStates: () => JobReport[];
}

export const jobStatesSchema = `
  CREATE TABLE IF NOT EXISTS job_states (
    job TEXT PRIMARY KEY, ended_at INTEGER NOT NULL, seconds REAL NOT NULL, last_success_at INTEGER,
    failures INTEGER NOT NULL, failed_items INTEGER NOT NULL, agents TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
`;

export function jobStatesIn(db: DatabaseSync): JobStates {
  // In one statement, so that of two processes that end at once neither is lost.
  const note = db.prepare(
    `INSERT INTO job_states VALUES (?1, ?2, ?3, iif(?4, ?2, NULL), iif(?4, 0, 1), ?5, ?6)
     ON CONFLICT DO UPDATE SET ended_at = excluded.ended_at, seconds = excluded.seconds,
       last_success_at = coalesce(excluded.last_success_at, last_success_at),
       failures = iif(?4, 0, failures + 1), failed_items = excluded.failed_items, agents = excluded.agents
     RETURNING last_success_at, failures`,
  );
  const all = db.prepare('SELECT * FROM job_states ORDER BY job');
  return {
    noteEnd({ job, endedAt, seconds, failedItems, agents, verdict }) {
      const well = verdict === 'well' ? 1 : 0;
      const row = note.get(job, endedAt, seconds, well, failedItems, JSON.stringify(agents));
      const lastSuccessAt = row?.['last_success_at'];
      return {
        job,
        endedAt,
        seconds,
        ...(typeof lastSuccessAt === 'number' ? { lastSuccessAt } : {}),
        failures: Number(row?.['failures']),
        failedItems,
        agents,
      };
    },
    // Another version may know other jobs.
    jobStates: () =>
      all.all().flatMap((row) => {
        const read = jobReportSchema.safeParse(fieldsOf(row));
        return read.success ? [read.data] : [];
      }),
  };
}

function fieldsOf(row: Record<string, unknown>): object {
  const lastSuccessAt = row['last_success_at'];
  return {
    job: row['job'],
    endedAt: row['ended_at'],
    seconds: row['seconds'],
    ...(typeof lastSuccessAt === 'number' ? { lastSuccessAt } : {}),
    failures: row['failures'],
    failedItems: row['failed_items'],
    agents: JSON.parse(String(row['agents'])) as unknown,
  };
}
