import { mkdir, readdir, readFile, rename, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type Config, configSchema } from '../../../src/config.ts';
import { NexusError } from '../../../src/errors.ts';
import { type JobRequest, runJob } from '../../../src/jobs/job.ts';
import { runPull } from '../../../src/jobs/pull.ts';
import { nobody, pullStatus } from '../../../src/jobs/pullreport.ts';
import type { Mailbox } from '../../../src/mailbox.ts';
import type { Nexus } from '../../../src/nexus.ts';
import { type FailedItem, reportStatus } from '../../../src/report.ts';
import { newWorld, type World } from '../world.ts';

export type Job = 'upload' | 'backfill' | 'pull-webhooks';

/** How a run ended, as its caller sees it. */
export interface Outcome {
  /** Exit status. */
  status: number;
  ok: boolean;
  failed: FailedItem[];
  /** Skipped places, of which it says no more than that. */
  skipped: number;
  bytes: number;
  delivered: number;
  /** What is no failure that Nexus knows. */
  bug?: string;
  text: string;
}

/** What a job works with: in this process, where its time limits can be short. */
export interface Doors {
  openNexus: () => Promise<Nexus>;
  openMailbox: () => Promise<Mailbox>;
}

/** A host with one agent, whose id nobody else has. */
export interface Box {
  agent: string;
  world: World;
  write(name: string, content: Buffer): Promise<void>;
  /** The transcripts that are no one's current session are complete. */
  current(ids: readonly string[]): Promise<void>;
  /** Runs a job; never rejects. */
  run(job: Job, doors: Doors): Promise<Outcome>;
  /** Ids of the files that are in the inbox or were taken, each as often as it was seen there. */
  inbox(): Promise<string[]>;
  /** What a file of the inbox holds. */
  file(id: string): Promise<string>;
  /** The agent takes all that is in its inbox. */
  take(): Promise<void>;
  /** For the built binary: another than the plain configuration. */
  configure(settings: object): Promise<void>;
}

export const jobSettings = {
  host: 'box',
  notify: { by: 'none' as const },
  settleMinutes: 0,
  chunkBytes: 16 * 1024,
  afterUpload: 'archive' as const,
  // One after another, so that the n-th request is the same one each time.
  concurrency: 1,
};

export async function newBox(directory: string, agent: string): Promise<Box> {
  const world = await newWorld(directory);
  const { stateDir, dataDir } = world;
  const sessions = path.join(stateDir, 'agents', agent, 'sessions');
  const workspace = path.join(stateDir, `workspace-${agent}`);
  const inbox = path.join(workspace, 'inbox', 'webhooks');
  const done = path.join(workspace, 'done');
  for (const made of [sessions, inbox, done]) await mkdir(made, { recursive: true, mode: 0o700 });
  const config: Config = configSchema.parse({ dataDir, ...jobSettings });
  let hour = 3;

  async function runNow(job: Job, doors: Doors): Promise<Outcome> {
    const around = {
      config,
      env: { OPENCLAW_STATE_DIR: stateDir, HOME: world.home },
      ...doors,
      signal: new AbortController().signal,
      now: () => new Date(),
      warn: () => undefined,
      progress: () => undefined,
    };
    if (job === 'pull-webhooks') {
      const tell = () => Promise.resolve({ notified: nobody(), failed: [] });
      const { report, unavailable } = await runPull({ agents: [] }, { ...around, tell });
      const { ok, failed, delivered } = report;
      const status = pullStatus(report, unavailable);
      return { status, ok, failed, skipped: 0, bytes: 0, delivered, text: JSON.stringify(report) };
    }
    const request: JobRequest = {
      job,
      agents: [],
      dryRun: false,
      all: false,
      verify: false,
      everything: job === 'backfill',
    };
    const { report, unavailable } = await runJob(request, around);
    const { ok, failed, skipped, bytes } = report;
    const status = reportStatus(report, unavailable);
    return { status, ok, failed, skipped, bytes, delivered: 0, text: JSON.stringify(report) };
  }

  return {
    agent,
    world,
    async write(name, content) {
      const file = path.join(sessions, name);
      await writeFile(file, content);
      // Each another time: a signature is size and time.
      const at = new Date(Date.now() - 3_600_000 * hour++);
      await utimes(file, at, at);
    },
    async current(ids) {
      const entries = ids.map((id, n) => [`agent:${agent}:work-${n}`, { sessionId: id }]);
      await writeFile(path.join(sessions, 'sessions.json'), JSON.stringify(Object.fromEntries(entries)));
    },
    async run(job, doors) {
      try {
        return await runNow(job, doors);
      } catch (error) {
        const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
        const failed = [{ item: job, reason: text }];
        const none = { status: 69, ok: false, failed, skipped: 0, bytes: 0, delivered: 0, text };
        return error instanceof NexusError ? none : { ...none, bug: text };
      }
    },
    async inbox() {
      const names = (await Promise.all([inbox, done].map((from) => readdir(from)))).flat();
      return names
        .filter((name) => !name.startsWith('.'))
        .map((name) => name.replace(/^github_|\.json$/g, ''));
    },
    file: (id) => readFile(path.join(inbox, `github_${id}.json`), 'utf8'),
    async take() {
      for (const name of await readdir(inbox)) {
        if (name.startsWith('.')) continue;
        await rename(path.join(inbox, name), path.join(done, name));
      }
    },
    configure: (settings) => world.configure({ ...jobSettings, ...settings }),
  };
}
