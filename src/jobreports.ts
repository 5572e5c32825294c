import * as z from 'zod';
import { agentIdPattern } from './agents.ts';
import { attendedJobs } from './alertsettings.ts';
import { NexusError } from './errors.ts';
import { keyOf, removeFound, type Row, rowOf, type Store } from './stores/store.ts';

/** The most agents of one report; more than these are summed up in one that no agent is called. */
export const mostAgents = 200;
export const otherAgents = '_other';

const at = () => z.number().int().min(0).max(8.64e15);
const count = () => z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

// Lazy, as all that not every run needs: to make schemas is most of what it takes to start.
const lagSchema = z.lazy(() =>
  z.strictObject({
    agent: z.union([z.string().regex(agentIdPattern), z.literal(otherAgents)]),
    /** Transcripts with something that is not in the archive, and the time of the oldest such event. */
    unshipped: count(),
    oldestAt: at().exactOptional(),
    /** Messages about webhooks that the agent is still to be told. */
    untold: count(),
  }),
);

/** How an agent of a host stands, by its id in Nexus. */
export type AgentLag = z.output<typeof lagSchema>;

/** How one job of a host stands after a run. Times are ms since 1970, by the host's clock. */
export const jobReportSchema = z.lazy(() =>
  z.strictObject({
    /** `status` is one too: it is well when it finds that all is well. */
    job: z.enum(attendedJobs),
    endedAt: at(),
    /** How long the run took, in seconds. */
    seconds: z.number().min(0).max(1e9),
    /** When a run was last well; absent when none is known. */
    lastSuccessAt: at().exactOptional(),
    /** Runs in a row, up to this one, that were not. */
    failures: count(),
    /** What failed in this run; of `status`, the problems it found. */
    failedItems: count(),
    /** What `status` has seen; of other jobs nothing. */
    agents: z.array(lagSchema).max(mostAgents),
  }),
);
export type JobReport = z.output<typeof jobReportSchema>;

export interface HostReport extends JobReport {
  host: string;
}

/** Who tells of a host with a key that is not good for all agents. */
export interface Teller {
  /** The key's name. */
  key: string;
  /** Whether there still is a key of that name. */
  isKey: (name: string) => boolean;
}

/** The last report of each job of each host, over a store. */
export interface JobReports {
  /**
   * Replaces the one before. A time of success that is no longer known is kept from that one. `conflict` where `by` is
   * said and another has told of this host: an agent's key says nothing of other agents' hosts.
   */
  put(host: string, report: JobReport, by?: Teller): Promise<void>;
  /** Those of the last 30 days, the newest first; older ones and those that rotted are removed. */
  list(): Promise<HostReports>;
}

export interface HostReports {
  /** At most 2000. */
  reports: HostReport[];
  /** How many more there are; of very many at least so many. */
  leftOut: number;
}

const partition = 'jobs';
const mostShown = 2000;
const mostRows = 20_000;
const keptMs = 30 * 86_400_000;

export function openJobReports(store: Store, now: () => Date = () => new Date()): JobReports {
  /** One that rotted is as none: the next report of its job replaces it. */
  const soundRow = (id: string) => rowOf(store, 'Jobs', partition, id, () => undefined);

  return {
    async put(host, report, by) {
      const { job, endedAt, seconds, failures, failedItems, agents } = report;
      if (by !== undefined)
        for (const one of attendedJobs) refuseOthers(host, await soundRow(idOf(host, one)), by);
      const before = await soundRow(idOf(host, job));
      const lastSuccessAt = report.lastSuccessAt ?? numberIn(before, 'lastSuccessAt');
      await store.put('Jobs', {
        partition,
        id: idOf(host, job),
        host,
        job,
        endedAt,
        seconds,
        failures,
        failedItems,
        agents: JSON.stringify(agents),
        reportedAt: now().getTime(),
        ...(lastSuccessAt === undefined ? {} : { lastSuccessAt }),
        ...(by === undefined ? {} : { key: by.key }),
      });
    },

    async list() {
      const since = now().getTime() - keptMs;
      let found: { at: number; report: HostReport }[] = [];
      const newest = () => found.sort((one, other) => other.at - one.at).slice(0, mostShown);
      const old: string[] = [];
      let looked = 0;
      let all = 0;
      for await (const row of store.rows('Jobs', partition, {}, (id) => old.push(id))) {
        const reportedAt = numberIn(row, 'reportedAt') ?? 0;
        const report = reportedAt < since ? undefined : reportIn(row);
        if (report === undefined) old.push(row.id);
        else {
          found.push({ at: reportedAt, report });
          all++;
        }
        if (found.length >= 2 * mostShown) found = newest();
        if (++looked >= mostRows) break;
      }
      await removeFound(store, 'Jobs', partition, old);
      found = newest();
      return { reports: found.map(({ report }) => report), leftOut: all - found.length };
    },
  };
}

function idOf(host: string, job: string): string {
  return keyOf(JSON.stringify([host, job]));
}

/** What no key told is of who has the store itself, or every key. */
function refuseOthers(host: string, row: Row | undefined, { key, isKey }: Teller): void {
  if (row === undefined || row['key'] === key) return;
  if (typeof row['key'] === 'string' && !isKey(row['key'])) return;
  throw new NexusError(
    'conflict',
    `Another key has told of the host ${JSON.stringify(host)}, and the key "${key}" is not for all agents.`,
  );
}

function numberIn(row: Row | undefined, field: string): number | undefined {
  const value = row?.[field];
  return typeof value === 'number' ? value : undefined;
}

/** `undefined` for what another version wrote and this one cannot read. */
function reportIn(row: Row): HostReport | undefined {
  const { host, job, endedAt, seconds, lastSuccessAt, failures, failedItems, agents } = row;
  const read = jobReportSchema.safeParse({
    job,
    endedAt,
    seconds,
    failures,
    failedItems,
    agents: jsonIn(agents),
    ...(lastSuccessAt === undefined ? {} : { lastSuccessAt }),
  });
  return read.success && typeof host === 'string' ? { ...read.data, host } : undefined;
}

function jsonIn(text: unknown): unknown {
  try {
    return typeof text === 'string' ? JSON.parse(text) : undefined;
  } catch {
    return undefined;
  }
}

/** As many as a report takes: of more, those that lag most, and the rest in one. */
export function fewAgents(lags: readonly AgentLag[]): AgentLag[] {
  if (lags.length <= mostAgents) return [...lags];
  const worst = lags.toSorted(byLag);
  const rest = worst.slice(mostAgents - 1);
  const oldest = Math.min(...rest.map(({ oldestAt }) => oldestAt ?? Number.POSITIVE_INFINITY));
  return [
    ...worst.slice(0, mostAgents - 1),
    {
      agent: otherAgents,
      unshipped: rest.reduce((sum, { unshipped }) => sum + unshipped, 0),
      ...(Number.isFinite(oldest) ? { oldestAt: oldest } : {}),
      untold: rest.reduce((sum, { untold }) => sum + untold, 0),
    },
  ];
}

function byLag(one: AgentLag, other: AgentLag): number {
  const [first, second] = [
    one.oldestAt ?? Number.MAX_SAFE_INTEGER,
    other.oldestAt ?? Number.MAX_SAFE_INTEGER,
  ];
  return first - second || other.unshipped - one.unshipped || other.untold - one.untold;
}

/** A gauge of Prometheus with its samples. */
export interface Series {
  name: string;
  help: string;
  labels: readonly string[];
  samples: { labels: Record<string, string>; value: number }[];
}

/** The most samples of one series by agent, those of the newest reports. */
const mostLags = 1000;

const jobLabels = ['host', 'job'];
const lagLabels = ['host', 'agent'];

/** What reports say, as Prometheus has it: the same by the endpoint and in a host's textfile. */
export function seriesOf(reports: readonly HostReport[], leftOut?: number): Series[] {
  const byJob = (name: string, help: string, value: (report: HostReport) => number | undefined): Series => ({
    name: `nexus_job_${name}`,
    help,
    labels: jobLabels,
    samples: reports.flatMap((report) => {
      const { host, job } = report;
      const known = value(report);
      return known === undefined ? [] : [{ labels: { host, job }, value: known }];
    }),
  });
  const allLags = reports.flatMap(({ host, agents }) => agents.map((lag) => ({ host, lag })));
  const lags = allLags.slice(0, mostLags);
  const alone = (name: string, help: string, value: number): Series => ({
    name,
    help,
    labels: [],
    samples: [{ labels: {}, value }],
  });
  const byAgent = (name: string, help: string, value: (lag: AgentLag) => number | undefined): Series => ({
    name: `nexus_agent_${name}`,
    help,
    labels: lagLabels,
    samples: lags.flatMap(({ host, lag }) => {
      const known = value(lag);
      return known === undefined ? [] : [{ labels: { host, agent: lag.agent }, value: known }];
    }),
  });
  return [
    byJob('last_run_timestamp_seconds', 'When the last run of a job ended.', ({ endedAt }) => endedAt / 1000),
    byJob('last_success_timestamp_seconds', 'When a run of a job last ended well.', ({ lastSuccessAt }) =>
      lastSuccessAt === undefined ? undefined : lastSuccessAt / 1000,
    ),
    byJob(
      'consecutive_failures',
      'Runs of a job in a row that did not end well.',
      ({ failures }) => failures,
    ),
    byJob('last_run_duration_seconds', 'How long the last run of a job took.', ({ seconds }) => seconds),
    byJob(
      'last_run_failed_items',
      'What failed in the last run of a job; of status, the problems found.',
      ({ failedItems }) => failedItems,
    ),
    byAgent(
      'unshipped_transcripts',
      'Transcripts not wholly in the archive, when status last looked.',
      ({ unshipped }) => unshipped,
    ),
    byAgent(
      'oldest_unshipped_timestamp_seconds',
      'Time of the oldest event not in the archive, when status last looked; absent when all is.',
      ({ oldestAt }) => (oldestAt === undefined ? undefined : oldestAt / 1000),
    ),
    byAgent(
      'untold_messages',
      'Messages about webhooks that the agent was still to be told, when status last looked.',
      ({ untold }) => untold,
    ),
    ...(leftOut === undefined
      ? []
      : [
          alone(
            'nexus_job_reports_left_out',
            'Jobs of hosts that are not shown, because there are too many.',
            leftOut,
          ),
          alone(
            'nexus_agent_reports_left_out',
            'Agents of hosts that are not shown, because there are too many.',
            allLags.length - lags.length,
          ),
        ]),
  ];
}
