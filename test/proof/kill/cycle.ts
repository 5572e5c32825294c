import { setTimeout as sleep } from 'node:timers/promises';
import type { Ran, Running } from '../world.ts';
import { ended, type Job, jobs, type Life, saidBy } from './life.ts';

export type Victim = Job | 'serve';
export const victims: readonly Victim[] = ['upload', 'backfill', 'pull-webhooks', 'serve'];

/** In which moment of its life a kill hit. */
export type Hit =
  /** Before anything that it would do could be seen; of serve, before it listened. */
  | 'before its first effect'
  /** Some of its work was done; of serve, with requests in flight. */
  | 'in the middle'
  /** All of it was, and the process had not ended; of serve, with no request in flight. */
  | 'after its last effect'
  /** It had ended by itself. */
  | 'ended before';
export const hits: readonly Hit[] = [
  'before its first effect',
  'in the middle',
  'after its last effect',
  'ended before',
];

/** How long unkilled runs take here, ms: what kills are spread over. */
export interface Durations {
  of(what: Victim | 'start'): number;
  note(what: Victim | 'start', ms: number): void;
}

export function openDurations(): Durations {
  const last = new Map<string, number[]>();
  return {
    of(what) {
      const sorted = (last.get(what) ?? [400]).toSorted((a, b) => a - b);
      return sorted[Math.floor(sorted.length / 2)] ?? 400;
    },
    note(what, ms) {
      last.set(what, [...(last.get(what) ?? []), ms].slice(-9));
    },
  };
}

export interface Cycles {
  /** Kills once; answers the moments that were hit. */
  kill(victim: Victim): Promise<Hit[]>;
  /** Runs a job to its end, which must be a good one, and compares what it said; `still`: OpenClaw does nothing. */
  finish(job: Job, still?: 'still'): Promise<void>;
  /** Everything that was acknowledged; `whole` reads every byte of it again. */
  check(whole: boolean): Promise<{ bytes: number; webhooks: number }>;
}

export function openCycles(life: Life, durations: Durations, random: () => number): Cycles {
  const { truth, recipient, store, sender, overHttp } = life;
  /** What a killed job had asked the endpoint for may be done after its death. */
  let asked = false;
  /** Names whose transcripts may have changed since they were compared. */
  const changed = new Set<string>();
  const endOf = (running: Running, what: string): Promise<Ran> =>
    ended(
      running,
      what,
      ({ what: sentence }) => life.broken(sentence),
      () => '',
    );

  async function watched(job: Job): Promise<Watched> {
    const places = await life.places();
    const pending = new Set(
      [...sender.acknowledged].filter(([id]) => !recipient.seen.has(id)).map(([id]) => id),
    );
    return {
      job,
      places,
      pending,
      touched: new Set(),
      lengths: await truth.lengths(store),
      temps: await recipient.temps(),
    };
  }

  /** What goes on while a job runs: OpenClaw writes, the agent reads and takes. */
  async function meanwhile(seen: Watched, until: Promise<unknown>, still = false): Promise<void> {
    const over = new AbortController();
    const end = until.finally(() => over.abort());
    const pause = async (ms: number): Promise<void> => void (await Promise.race([sleep(ms), end]));
    if (random() < 0.5) await pause(random() * durations.of(seen.job));
    while (!over.signal.aborted) {
      if (seen.job === 'pull-webhooks') await recipient.look(0.3);
      else if (!still && random() < 0.4) for (const name of await life.step(1)) touch(seen, name);
      await pause(20 + random() * 60);
    }
    await end;
  }
  function touch(seen: Watched, name: string): void {
    seen.touched.add(name);
    changed.add(name);
  }

  /** By exit status and report: what it answers for is owed from now on. */
  function believe(ran: Ran, seen: Watched, mustDoWell: boolean): void {
    const said = saidBy(ran);
    if (mustDoWell && (ran.status !== 0 || said?.ok !== true))
      life.broken(`${seen.job} ended with ${ran.status ?? ran.signal}`, `${ran.stdout}\n${ran.stderr}`);
    if (ran.status === 0 && said?.ok !== true)
      life.broken(`${seen.job} ended with 0 and says ${ran.stdout.slice(0, 300)}`);
    if (ran.signal === null && said === undefined && ran.status === 0)
      life.broken(`${seen.job} said nothing`);
    if (said === undefined || seen.job === 'pull-webhooks') return;
    const failed = new Set(said.failed.map(({ item }) => item));
    // It answers for the agents that it got to.
    const answersFor = (agent: string): boolean =>
      said.agents?.[agent] !== undefined && !failed.has(`agent ${agent}`);
    for (const { name, place, bytes } of seen.places)
      if (answersFor(name.split('/')[0] ?? '') && !failed.has(place) && !seen.touched.has(name))
        truth.owe(name, bytes, `${seen.job} at ${life.again()}, ${place}, ${ran.stdout}`);
  }

  async function grownSince(
    before: ReadonlyMap<string, number>,
  ): Promise<{ bytes: number; names: string[] }> {
    const names: string[] = [];
    let bytes = 0;
    const now = await truth.lengths(store);
    for (const [blob, length] of now) {
      const grown = length - (before.get(blob) ?? 0);
      if (grown === 0) continue;
      bytes += grown;
      names.push(blob.replace(/^sessions\/inbox\//, '').replace(/(~\d+)?\.jsonl$/, ''));
    }
    for (const blob of before.keys()) if (!now.has(blob)) life.broken(`${blob} is not stored any more`);
    return { bytes, names };
  }

  /** What a killed run left: nothing, some or all of what the next one would do. */
  async function momentOf(seen: Watched): Promise<Hit> {
    if (seen.job === 'pull-webhooks') {
      await recipient.look(0);
      const there = [...seen.pending].filter((id) => recipient.seen.has(id)).length;
      if (there === 0)
        return (await recipient.temps()) > seen.temps ? 'in the middle' : 'before its first effect';
      const left = await pendingOf(life);
      return [...seen.pending].some((id) => left.has(id)) ? 'in the middle' : 'after its last effect';
    }
    const { names } = await grownSince(seen.lengths);
    if (names.length === 0) return 'before its first effect';
    const now = await truth.lengths(store);
    const whole = seen.places.every(({ name, bytes }) =>
      [...histories(name)].some((blob) => (now.get(blob) ?? 0) >= bytes.length),
    );
    return whole ? 'after its last effect' : 'in the middle';
  }

  async function finish(job: Job, still?: 'still'): Promise<void> {
    const seen = await watched(job);
    const from = performance.now();
    const running = life.start(job);
    const over = endOf(running, job);
    await meanwhile(seen, over, still === 'still');
    const ran = await over;
    durations.note(job, performance.now() - from);
    believe(ran, seen, true);
    const said = saidBy(ran);
    if (job === 'pull-webhooks') {
      await recipient.look(0.3);
      const left = [...seen.pending].filter((id) => !recipient.seen.has(id));
      if (left.length > 0)
        life.broken(`${left.length} were pending and the pull that ended well left them, as ${left[0]}`);
      return;
    }
    const { bytes, names } = await grownSince(seen.lengths);
    for (const name of names) changed.add(name);
    const late = bytes - (said?.bytes ?? bytes);
    if (late < 0 || late > (asked ? life.inFlightBytes : 0))
      life.broken(`${job} says ${said?.bytes} bytes stored, and ${bytes} are`, ran.stdout);
    asked = false;
  }

  /** Half of them at any moment of a run, half from when it is at work, which is the shorter part of it. */
  async function killSoon(running: Running, job: Job): Promise<void> {
    const anywhere = random() < 0.5;
    const share = random();
    const from = performance.now();
    if (!anywhere) await life.atWork(running);
    const rest = durations.of(job) - (anywhere ? 0 : performance.now() - from);
    await Promise.race([sleep(share * Math.max(rest, 100)), running.ended]);
    running.kill('SIGKILL');
  }

  async function killJob(job: Job): Promise<Hit[]> {
    const seen = await watched(job);
    const from = performance.now();
    const running = life.start(job);
    const over = endOf(running, job);
    const killing = killSoon(running, job);
    await meanwhile(seen, over);
    await killing;
    const ran = await over;
    if (ran.signal === 'SIGKILL') {
      asked = overHttp;
      for (const { name } of seen.places) if (seen.touched.has(name)) changed.add(name);
      const hit = await momentOf(seen);
      for (const name of (await grownSince(seen.lengths)).names) changed.add(name);
      return [hit];
    }
    durations.note(job, performance.now() - from);
    believe(ran, seen, true);
    for (const name of (await grownSince(seen.lengths)).names) changed.add(name);
    return ['ended before'];
  }

  /** While a job is at work and webhooks come; sometimes once more while it starts. */
  async function killServe(): Promise<Hit[]> {
    const found: Hit[] = [];
    const job = jobs[Math.floor(random() * jobs.length)] ?? 'upload';
    const seen = await watched(job);
    const running = life.start(job);
    const over = endOf(running, job);
    let working = overHttp;
    const rest = meanwhile(seen, over).finally(() => (working = false));
    await sleep(random() * durations.of(job));
    const serving = life.serving();
    const busy = sender.inFlight > 0 || working;
    serving.kill('SIGKILL');
    sender.sendTo(undefined);
    const { signal } = await serving.ended;
    found.push(signal !== 'SIGKILL' ? 'ended before' : busy ? 'in the middle' : 'after its last effect');
    if (signal !== 'SIGKILL') life.broken('serve ended by itself');
    if (random() < 0.3) {
      const starting = life.beginServing();
      await sleep(random() * durations.of('start'));
      starting.kill('SIGKILL');
      await starting.ended;
      found.push('before its first effect');
    }
    const from = performance.now();
    await life.startServing();
    durations.note('start', performance.now() - from);
    await rest;
    // What it could not reach for a moment it was told to try again; where that was not enough it says so.
    believe(await over, seen, false);
    for (const name of (await grownSince(seen.lengths)).names) changed.add(name);
    return found;
  }

  return {
    kill: (victim) => (victim === 'serve' ? killServe() : killJob(victim)),
    finish,
    async check(whole) {
      await recipient.look(whole ? 0.3 : 0);
      const broken = ({ what }: { what: string }): void => life.broken(what);
      const bytes = await truth.check(store, whole ? 'all' : changed, broken);
      changed.clear();
      const webhooks = await recipient.check(life.webhooks, { whole });
      return { bytes, webhooks };
    },
  };
}

interface Watched {
  job: Job;
  places: Awaited<ReturnType<Life['places']>>;
  /** Acknowledged before it began and not in the inbox then. */
  pending: Set<string>;
  /** What OpenClaw did something to while it ran: of that it may say either. */
  touched: Set<string>;
  lengths: Map<string, number>;
  /** Files that are being written to the inbox, or were when a run died. */
  temps: number;
}

function* histories(name: string): Generator<string> {
  for (let n = 1; n <= 20; n++) yield `sessions/inbox/${n === 1 ? name : `${name}~${n}`}.jsonl`;
}

async function pendingOf({ webhooks }: Life): Promise<Set<string>> {
  const found = new Set<string>();
  for await (const { id } of webhooks.list({ state: 'pending' })) found.add(id);
  return found;
}
