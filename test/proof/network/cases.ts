import { rm } from 'node:fs/promises';
import type { LightMyRequestResponse } from 'fastify';
import type { Broken } from '../part.ts';
import type { Plan } from './badway.ts';
import { newBox } from './box.ts';
import { direct, type JobFlow, unfinished, untrue } from './jobflows.ts';
import type { Line } from './lines.ts';
import type { RequestFlow } from './requests.ts';
import { inside } from './throwing.ts';

/** A fault at the n-th request of one flow. */
export interface Case {
  flow: JobFlow | RequestFlow;
  fault: string;
  at: number;
  times: number;
}

/** What came of one: done all the same, or named as not done; `unmet` where fewer requests were made. */
export type Met = 'done all the same' | 'named' | 'unmet';

/** No run takes longer than this, ms, whatever befalls it. */
const boundMs = 20_000;
/** After this, ms, it is not waited for any longer. */
const givenUpMs = 60_000;

let agents = 0;

/** Requests that a flow makes when nothing befalls it. */
export async function lengthOf(line: Line, flow: Case['flow'], directory: string): Promise<number> {
  let count = 0;
  const broken: string[] = [];
  const plain = { flow, fault: '', at: 0, times: 0 };
  await runCase(
    line,
    plain,
    directory,
    ({ what }) => broken.push(what),
    (n) => (count = n),
  );
  if (broken.length > 0)
    throw new Error(`${line.name}: ${flow.name} goes wrong without a fault: ${broken.join('; ')}`);
  return count;
}

export async function runCase(
  line: Line,
  one: Case,
  directory: string,
  broken: (one: Broken) => void,
  counted: (count: number) => void = () => undefined,
): Promise<Met> {
  const { flow, fault, at, times } = one;
  const again = `${line.name}: ${flow.name}, ${fault} at ${at}${times === 1 ? '' : `, ${times} times`}`;
  const say = (what: string, text = ''): void =>
    broken({ what: `${flow.name}: ${what}`, again: `${again}\n${text}` });
  await line.fresh?.();
  const plan = at === 0 ? undefined : { at, times, fault };
  const around = { directory, plan, say, counted };
  return 'job' in flow ? await runJobCase(line, flow, around) : await runRequestCase(line, flow, around);
}

interface Around {
  directory: string;
  plan: Plan | undefined;
  say: (what: string, text?: string) => void;
  counted: (count: number) => void;
}

async function runJobCase(
  line: Line,
  flow: JobFlow,
  { directory, plan, say, counted }: Around,
): Promise<Met> {
  const box = await newBox(directory, `n${process.pid}x${agents++}`);
  try {
    line.begin();
    const expected = await flow.prepare(box, line.store);
    line.begin(plan);
    const said = await within(() => line.run(box, flow.job, plan === undefined ? 'past' : undefined), say);
    if (said === undefined) return 'named';
    const count = line.count();
    counted(count);
    line.begin();
    for (const wrong of await untrue(box, line.store, said, expected)) say(wrong, said.text);
    if (said.text.includes(inside)) say('shows the inside of the endpoint', said.text);
    // What is delivered twice shows only when it is gone from the inbox.
    await box.take();
    const next = await within(() => line.run(box, flow.job, 'past'), say);
    if (next?.status !== 0) say(`the next run ends with ${next?.status}`, `${said.text}\n${next?.text}`);
    for (const wrong of await unfinished(box, line.store, expected))
      say(`after the next run, ${wrong}`, said.text);
    await box.take();
    const last = await box.run(flow.job, direct(line.store));
    if (last.status !== 0 || last.bytes + last.delivered > 0)
      say('a third run finds something to do', last.text);
    if (plan !== undefined && count < plan.at) return 'unmet';
    return said.ok ? 'done all the same' : 'named';
  } finally {
    line.begin();
    await rm(box.world.home, { recursive: true, force: true });
  }
}

async function runRequestCase(line: Line, flow: RequestFlow, { plan, say, counted }: Around): Promise<Met> {
  const { served, store } = line;
  if (served === undefined) throw new Error('There is no endpoint on this line.');
  const agent = `n${process.pid}x${agents++}`;
  served.admit(agent);
  line.begin();
  const prepared = await flow.prepare(store, agent);
  // What the endpoint asks of its store once, it has asked by now.
  await served.app.inject({ method: 'GET', url: '/api/store' });
  served.log.length = 0;
  const ask = async (): Promise<LightMyRequestResponse | undefined> =>
    await within(() => served.app.inject(prepared.request).catch(() => undefined), say);
  line.begin(plan);
  const answer = await ask();
  const count = line.count();
  counted(count);
  line.begin();
  const status = answer?.statusCode ?? 0;
  const text = `${status} ${JSON.stringify(answer?.headers)} ${answer?.body.slice(0, 500)}\n${served.log.join('\n')}`;
  const good = prepared.good.includes(status);
  if (answer !== undefined && good)
    for (const wrong of await prepared.untrue(store, answer))
      say(`was answered with ${status}, and ${wrong}`, text);
  if (answer !== undefined && !good)
    refusal(answer, served.log, plan?.fault ?? '', (what) => say(what, text));
  const next = good && prepared.request.method !== 'POST' ? answer : await ask();
  if (!good && !prepared.again.includes(next?.statusCode ?? 0))
    say(`asked again it is answered with ${next?.statusCode}`, `${text}\n${next?.body}`);
  for (const wrong of await prepared.unfinished(store)) say(`asked again, ${wrong}`, text);
  if (plan !== undefined && count < plan.at) return 'unmet';
  return good ? 'done all the same' : 'named';
}

/** A store's failure is the endpoint's, never its caller's, and nobody's to look into. */
function refusal(
  { statusCode, headers, body }: LightMyRequestResponse,
  log: readonly string[],
  fault: string,
  say: (what: string) => void,
): void {
  const bug = fault.startsWith('a bug');
  if (statusCode !== 503 && !(bug && statusCode === 500))
    say(`a failure of the store is answered with ${statusCode}`);
  if (statusCode === 503 && headers['retry-after'] === undefined) say('a 503 does not say when to try again');
  if (`${body}${JSON.stringify(headers)}`.includes(inside)) say('the answer shows the inside');
  if (/\n\s+at |node:internal|\.[jt]s:\d/.test(body)) say('the answer shows where in the program it failed');
  if (statusCode === 500 && !log.some((entry) => entry.includes('internal error'))) say('a 500 is in no log');
}

/** Answers `undefined`, and says so, where it has not ended in time. */
async function within<T>(work: () => Promise<T>, say: (what: string) => void): Promise<T | undefined> {
  const { promise, resolve } = Promise.withResolvers<'late'>();
  const timer = setTimeout(() => resolve('late'), givenUpMs);
  const from = performance.now();
  try {
    const result = await Promise.race([work(), promise]);
    if (result === 'late') {
      say('did not end');
      return undefined;
    }
    const ms = performance.now() - from;
    if (ms > boundMs) say(`took ${Math.round(ms)} ms`);
    return result;
  } finally {
    clearTimeout(timer);
  }
}
