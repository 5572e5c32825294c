import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Broken, Part, Site, Table } from './part.ts';
import { randomOf } from './part.ts';
import { keepBase } from './operations/base.ts';
import { pullFlow } from './operations/deliver.ts';
import { type Case, casesOf, manners } from './operations/faults.ts';
import type { Flow } from './operations/flow.ts';
import { serveFlow } from './operations/receive.ts';
import { backfillFlow, uploadFlow } from './operations/ship.ts';
import { usageFlow } from './operations/spend.ts';
import { buildShim, type Fault, hurried, readOperations, type Shim } from './shim/shim.ts';
import { newWorld, type World } from './world.ts';

const flows: readonly Flow[] = [uploadFlow, pullFlow, serveFlow, backfillFlow, usageFlow];

/** Of each flow, tried whatever the time. */
const least = 5;

/** At once: one waits for the disk while the other works. */
const lanes = 2;

/** One flow in a world of its own, and its cases in the order in which they are tried. */
interface Course {
  flow: Flow;
  cases: Case[];
  tried: Case[];
  missed: number;
  attempt(one: Case): Promise<{ broken: string[]; hit: string | undefined }>;
}

export const operations: Part = {
  name: 'operations',
  promise:
    'Whichever operation on a file or a database fails, and however it does, what was acknowledged is there, the ' +
    'failure is told, and the next run finishes the work, nothing twice.',
  share: 40,
  async run(site) {
    const shim = await buildShim(site.directory);
    const courses: Course[] = [];
    for (const flow of flows) courses.push(await courseOf(flow, site, shim));
    const broken: Broken[] = [];
    for (const { flow, cases } of courses) site.say(`${flow.name}: ${cases.length} cases`);

    async function tryNext(course: Course): Promise<boolean> {
      const one = course.cases[course.tried.length + course.missed];
      if (one === undefined) return false;
      const { broken: found, hit } = await course.attempt(one);
      if (hit === undefined) course.missed++;
      else course.tried.push(one);
      const where = `${course.flow.name}, ${one.manner} at operation ${one.fault.at} (${hit ?? 'not reached'})`;
      for (const what of new Set(found)) {
        broken.push({ what: `${where}: ${what}`, again: `--seed ${site.seed} operations, ${where}` });
        site.say(`${where}: ${what}`);
      }
      return true;
    }

    const waiting = [...courses];
    async function lane(): Promise<void> {
      for (;;) {
        const course = waiting.shift();
        if (course === undefined) return;
        const enough = Date.now() >= site.deadline && course.tried.length >= least;
        // Round and round, so that each flow has its part of the time.
        if (!enough && (await tryNext(course))) waiting.push(course);
      }
    }
    // All of them to their ends, since what fails one leaves the files to be removed.
    const ends = await Promise.allSettled(Array.from({ length: lanes }, lane));
    for (const end of ends) if (end.status === 'rejected') throw end.reason;

    const missed = courses.reduce((sum, course) => sum + course.missed, 0);
    return {
      counts: courses.map(({ flow, cases, tried }) => ({
        what: `runs of ${flow.name} in which an operation failed`,
        count: tried.length,
        of: cases.length,
      })),
      tables: [tableOf(courses)],
      broken,
      left: [
        ...(missed > 0
          ? [`${missed} runs ended before they came to their operation: runs differ by a few of them.`]
          : []),
        'Failures of close, stat, readdir and fcntl, and of what SQLite maps into memory.',
      ],
    };
  },
};

async function courseOf(flow: Flow, { directory, seed }: Site, shim: Shim): Promise<Course> {
  const own = path.join(directory, flow.name);
  await mkdir(own);
  const world = hurried(await newWorld(own), shim);
  await flow.prepare(world);
  const base = await keepBase(world);
  const log = path.join(own, 'log');

  async function run(fault?: Fault, killed = false): Promise<string[]> {
    await base.restore();
    await rm(log, { force: true });
    const roots = rootsOf(world);
    const watch = { roots, log, reads: true, ...(fault === undefined ? {} : { fault }) };
    try {
      return await flow.attempt(world, shim(watch), killed);
    } catch (error) {
      // What is stored cannot even be read.
      return [error instanceof Error ? `${error.name} ${error.message}` : String(error)];
    }
  }

  const whole = await run();
  if (whole.length > 0) throw new Error(`${flow.name} without a fault: ${whole.join(' ')}`);
  const operations = await readOperations(log);
  return {
    flow,
    cases: casesOf(operations, randomOf(seed)),
    tried: [],
    missed: 0,
    async attempt({ fault, killed }) {
      const broken = await run(fault, killed);
      const hit = (await readOperations(log)).find(({ kind }) => kind === 'hit');
      const at = hit === undefined ? undefined : `${hit.path} of ${path.relative(world.home, hit.other)}`;
      return { broken, hit: at };
    },
  };
}

function tableOf(courses: readonly Course[]): Table {
  const inManner = (cases: readonly Case[], name: string): number =>
    cases.filter(({ manner }) => manner === name).length;
  return {
    title: 'How operations failed, how often of all that can',
    columns: ['', ...courses.map(({ flow }) => flow.name)],
    rows: manners.map(({ name }) => [
      name,
      ...courses.map(({ tried, cases }) => `${inManner(tried, name)} of ${inManner(cases, name)}`),
    ]),
  };
}

const rootsOf = ({ dataDir, stateDir }: World): string[] => [dataDir, stateDir];
