import * as fc from 'fast-check';
import { againOf, ask, type Asked } from './asked.ts';
import { basesOf, plainRequest } from './bases.ts';
import { judge, shortOf, wrongWith } from './judge.ts';
import type { Notes } from './notes.ts';
import { hostileTo } from './requests.ts';
import { nameOf, type Route } from './routes.ts';
import type { Stand } from './stand.ts';

/** Each route's plain request is answered well: what hostile ones then change is one that arrives. */
export async function coverRoutes(stand: Stand, notes: Notes, routes: readonly Route[]): Promise<void> {
  const bases = basesOf(stand);
  for (const route of routes) {
    const base = bases[nameOf(route)]?.();
    if (base === undefined) {
      notes.broken(
        'A route is not covered: give it a request in test/proof/hostile/bases.ts.',
        nameOf(route),
      );
      continue;
    }
    const asked = plainRequest(stand, route.method, route.url, base);
    const answer = await ask(stand.door, asked);
    const right = base.status === undefined ? (answer?.status ?? 999) < 400 : answer?.status === base.status;
    if (!right)
      notes.broken('A route does not take its plain request.', `${againOf(asked)} → ${shortOf(answer)}`);
    judge(stand, notes, asked, base.as === 'operator' ? undefinedBetas(answer) : answer);
  }
  for (const name of Object.keys(bases))
    if (!routes.some((route) => nameOf(route) === name))
      notes.broken('There is a request for a route that is no more.', name);
}

/** The operator may see what is beta's. */
function undefinedBetas<T extends { body: Buffer } | undefined>(answer: T): T {
  return answer === undefined ? answer : { ...answer, body: Buffer.from('{"error":"-"}') };
}

/** Hostile requests to every route, `least` each and on until the time is over; what breaks is made small. */
export async function fuzzRoutes(
  stand: Stand,
  notes: Notes,
  { routes, least, seed, until }: { routes: readonly Route[]; least: number; seed: number; until: number },
): Promise<void> {
  const bases = basesOf(stand);
  const waiting = routes.flatMap((route) => {
    const base = bases[nameOf(route)];
    // What only the operator may ask, alpha asks too.
    return base === undefined ? [] : [{ route, base: () => ({ ...base(), ...asAlpha(base().as) }) }];
  });
  const worker = async (): Promise<void> => {
    for (;;) {
      const next = waiting.shift();
      if (next === undefined || stand.gone()) return;
      await tryRoute(stand, notes, hostileTo(stand, next.route, next.base), nameOf(next.route), least, seed);
      if (Date.now() < until) waiting.push(next);
      seed += 1;
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
}

function asAlpha(as: string | undefined): object {
  return as === 'operator' ? { as: undefined } : {};
}

async function tryRoute(
  stand: Stand,
  notes: Notes,
  requests: fc.Arbitrary<Asked>,
  name: string,
  runs: number,
  seed: number,
): Promise<void> {
  const result = await fc.check(
    fc.asyncProperty(requests, async (asked) => {
      const answer = await ask(stand.door, asked);
      notes.count('hostile requests');
      notes.count(`answered ${answer === undefined ? 'not' : `${String(answer.status)[0]}xx`}`);
      const wrong = stand.gone() ? 'The endpoint ended.' : wrongWith(stand, answer);
      if (wrong !== undefined) throw new Error(`${wrong}\u0000${againOf(asked)} → ${shortOf(answer)}`);
    }),
    { numRuns: runs, seed, interruptAfterTimeLimit: 60_000 },
  );
  if (!result.failed) return;
  const message =
    result.errorInstance instanceof Error ? result.errorInstance.message : String(result.errorInstance);
  const [what = '', again = ''] = message.split('\u0000');
  notes.broken(what === '' ? message : what, `${name}: ${again}`);
}
