import { createHmac, randomUUID } from 'node:crypto';
import { appendFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Answer, Asking } from './asking.ts';
import { headerLine, numberOf, type Spent, turnLines, webhookBody } from './soaklines.ts';
import type { World } from './world.ts';

/** What was acknowledged, and what was seen that should not be. */
export interface Seen {
  /** Webhooks that were answered 202, by the id that they were given. */
  accepted: Map<string, number>;
  /** Ids that were taken out of pending by hand. */
  taken: Set<string>;
  /** Transcripts that were posted whole and answered 200. */
  posted: Map<string, string>;
  /** What the transcripts used in all, grown and posted. */
  spent: Spent;
  /** ms, by what was asked. */
  times: Map<string, number[]>;
  busy: number;
  wrong: string[];
}

export interface Soak {
  world: World;
  asking: Asking;
  sessions: string;
  secret: string;
  random: () => number;
  seen: Seen;
}

/** Works until then, and ends with nothing under way. */
export type Actor = (soak: Soak, until: number) => Promise<void>;

const webhooksASecond = 80;
const senders = 8;
let nth = 0;

export const actors: Actor[] = [
  ...Array.from({ length: senders }, () => sendWebhooks),
  takeByHand,
  query,
  growTranscripts,
  postTranscripts,
  job(['upload', '--json'], 3000),
  job(['pull-webhooks', '--json'], 3000),
];

async function timed(soak: Soak, what: string, asked: Promise<Answer>, expected: number[]): Promise<Answer> {
  const answer = await asked;
  const { times, wrong } = soak.seen;
  const list = times.get(what) ?? [];
  times.set(what, list);
  list.push(answer.ms);
  if (answer.status === 503) soak.seen.busy++;
  else if (!expected.includes(answer.status))
    wrong.push(`${what} answered ${answer.status}: ${answer.body.toString().slice(0, 200)}`);
  return answer;
}

/** To two mailboxes, signed as GitHub does; one in fifty is sent twice, and is a duplicate then. */
async function sendWebhooks(soak: Soak, until: number): Promise<void> {
  const everyMs = (1000 * senders) / webhooksASecond;
  await pause(soak.random() * everyMs);
  for (let next = Date.now(); Date.now() < until; next += everyMs) {
    const number = nth++;
    const body = webhookBody(number);
    const agent = number % 2 === 0 ? 'main' : 'other';
    const headers = {
      'content-type': 'application/json',
      'x-github-event': 'issues',
      'x-github-delivery': `soak-${number}`,
      'x-hub-signature-256': `sha256=${createHmac('sha256', soak.secret).update(body).digest('hex')}`,
    };
    const send = (status: number): Promise<Answer> =>
      timed(
        soak,
        'POST /api/webhook',
        soak.asking.ask('POST', `/api/webhook/${agent}?source=github`, headers, body),
        [status],
      );
    const answer = await send(202);
    const { id }: { id?: string } = JSON.parse(answer.body.toString());
    if (answer.status === 202 && id !== undefined) {
      if (soak.seen.accepted.has(id)) soak.seen.wrong.push(`${id} was given to two webhooks`);
      soak.seen.accepted.set(id, number);
      if (number % 50 === 0) {
        const again = await send(200);
        if (again.status === 200 && !again.body.includes(id))
          soak.seen.wrong.push(`a duplicate of ${id} was answered ${again.body.toString()}`);
      }
    }
    await pause(Math.max(0, next + everyMs - Date.now()));
  }
}

/** Looks at what is pending, compares it, and drops it from pending: a host that is not ours. */
async function takeByHand(soak: Soak, until: number): Promise<void> {
  const { asking, seen } = soak;
  while (Date.now() < until) {
    const page = await timed(
      soak,
      'GET /api/webhook/pending',
      asking.ask('GET', '/api/webhook/pending?agentId=other&limit=50'),
      [200],
    );
    if (page.status === 200) {
      const { other: items = [] }: { other?: { id: string; payload: unknown }[] } = JSON.parse(
        page.body.toString(),
      );
      for (const { id, payload } of items)
        if (numberOf(payload) === undefined)
          seen.wrong.push(`${id} is pending with a payload that nobody sent`);
      const ids = items.map(({ id }) => id);
      for (const id of ids.filter((one) => seen.taken.has(one)))
        seen.wrong.push(`${id} is pending after it was acknowledged`);
      const body = Buffer.from(JSON.stringify({ ids }));
      const json = { 'content-type': 'application/json' };
      if (ids.length > 0) {
        const done = await timed(
          soak,
          'DELETE /api/webhook/items',
          asking.ask('DELETE', '/api/webhook/items', json, body),
          [200],
        );
        if (done.status === 200) for (const id of ids) seen.taken.add(id);
      }
    }
    await pause(250);
  }
}

const questions = [
  '/api/usage?by=agent,day,model',
  '/api/usage?by=session',
  '/api/sessions?limit=50',
  '/api/webhook/items?limit=50',
  '/',
  '/usage',
  '/sessions',
  '/webhooks',
  '/metrics',
  '/readyz',
];

async function query(soak: Soak, until: number): Promise<void> {
  for (let next = Date.now(); Date.now() < until; next += 150) {
    const path = questions[Math.floor(soak.random() * questions.length)] ?? '/';
    await timed(soak, `GET ${path.split('?')[0]}`, soak.asking.ask('GET', path), [200]);
    await pause(Math.max(0, next + 150 - Date.now()));
  }
}

/** Eight at once; the next begins where one has some 300 KiB. */
async function growTranscripts({ sessions, random, seen }: Soak, until: number): Promise<void> {
  const open: { file: string; left: number }[] = [];
  while (Date.now() < until) {
    const place = Math.floor(random() * 8);
    let one = open[place];
    const now = Date.now();
    let lines = '';
    if (one === undefined || one.left <= 0) {
      const id = randomUUID();
      one = { file: path.join(sessions, `${id}.jsonl`), left: 300 * 1024 };
      open[place] = one;
      lines = headerLine(id, now);
    }
    lines += turnLines(now, random, seen.spent);
    one.left -= lines.length;
    await appendFile(one.file, lines);
    await pause(150);
  }
}

async function postTranscripts(soak: Soak, until: number): Promise<void> {
  while (Date.now() < until) {
    const sessionId = randomUUID();
    const spent: Spent = { calls: 0, tokens: 0 };
    const now = Date.now();
    const transcript = headerLine(sessionId, now) + turnLines(now, soak.random, spent);
    const body = Buffer.from(JSON.stringify({ agentId: 'poster', sessionId, transcript }));
    const json = { 'content-type': 'application/json' };
    const answer = await timed(
      soak,
      'POST /api/sessions',
      soak.asking.ask('POST', '/api/sessions', json, body),
      [200],
    );
    if (answer.status === 200) {
      soak.seen.posted.set(sessionId, transcript);
      soak.seen.spent.calls += spent.calls;
      soak.seen.spent.tokens += spent.tokens;
    }
    await pause(1000);
  }
}

/** The built binary as a timer would run it. */
function job(args: string[], everyMs: number): Actor {
  const what = `nexus ${args[0]}`;
  return async ({ world, seen }, until) => {
    while (Date.now() < until) {
      const began = performance.now();
      const ran = await world.run(args);
      const list = seen.times.get(what) ?? [];
      seen.times.set(what, list);
      list.push(performance.now() - began);
      if (ran.status !== 0)
        seen.wrong.push(`${what} ended with ${ran.status}: ${ran.stdout}${ran.stderr}`.slice(0, 600));
      await pause(Math.max(0, Math.min(everyMs, until - Date.now())));
    }
  };
}
