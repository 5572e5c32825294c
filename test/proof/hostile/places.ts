import { randomOf, shuffled } from '../part.ts';
import { type Asked, ask } from './asked.ts';
import { type Base, basesOf, plainRequest } from './bases.ts';
import { judge } from './judge.ts';
import { nastyText } from './nasty.ts';
import type { Notes } from './notes.ts';
import { theirs } from './requests.ts';
import { nameOf, type Route } from './routes.ts';
import type { Stand } from './stand.ts';

/** What a listing knows beside what its plain request says. */
const ofListings = ['cursor', 'since', 'limit', 'code', 'agentId', 'agent'];

interface Case {
  route: Route;
  base: () => Base;
  kind: 'params' | 'query' | 'headers' | 'json';
  name: string;
}

/** Every place of every route that takes a value: of its path, its query, its headers, and the texts of its body. */
function placesOf(stand: Stand, routes: readonly Route[]): Case[] {
  const bases = basesOf(stand);
  return routes.flatMap((route) => {
    const made = bases[nameOf(route)];
    if (made === undefined) return [];
    // What only the operator may ask, alpha asks too.
    const base = (): Base => {
      const { as, ...rest } = made();
      return as === undefined || as === 'operator' ? rest : { ...rest, as };
    };
    const { params = {}, query, headers = {}, json } = base();
    const texts = Object.entries(typeof json === 'object' && json !== null ? json : {});
    const names: [Case['kind'], string[]][] = [
      ['params', Object.keys(params)],
      ['query', query === undefined ? [] : [...new Set([...Object.keys(query), ...ofListings])]],
      ['headers', Object.keys(headers)],
      ['json', texts.flatMap(([name, value]) => (typeof value === 'string' || isTexts(value) ? [name] : []))],
    ];
    return names.flatMap(([kind, all]) => all.map((name) => ({ route, base, kind, name })));
  });
}

function requestWith(stand: Stand, { route, base, kind, name }: Case, value: string): Asked {
  const usual = base();
  const part = kind === 'headers' ? value.replace(/[^\x20-\x7e]/g, '') : value;
  const before: unknown = Object(usual[kind])[name];
  const other = { ...usual, [kind]: { ...Object(usual[kind]), [name]: isTexts(before) ? [part] : part } };
  return plainRequest(stand, route.method, route.url, other);
}

function isTexts(value: unknown): boolean {
  return Array.isArray(value) && typeof value[0] === 'string';
}

/** What is beta's, named by alpha in every place there is: nothing of it is told or changed. */
export async function trespass(
  stand: Stand,
  notes: Notes,
  routes: readonly Route[],
  most: number,
): Promise<void> {
  const cases = placesOf(stand, routes).flatMap((place) =>
    theirs(stand)
      .slice(0, most)
      .map((value) => requestWith(stand, place, value)),
  );
  await askAll(stand, notes, cases);
  notes.count("another agent's names in every place", cases.length);
}

/** Each nasty text in every place, the next `most` of them in an order that the seed decides. */
export async function nastyPlaces(
  stand: Stand,
  notes: Notes,
  routes: readonly Route[],
  { most, order }: { most: number; order: number },
): Promise<void> {
  const what = 'a nasty text in a place of a request';
  const all = placesOf(stand, routes).flatMap((place) => nastyText.map((text) => ({ place, text })));
  const from = notes.counted(what);
  const cases = shuffled(all, randomOf(order)).slice(from, from + most);
  await askAll(
    stand,
    notes,
    cases.map(({ place, text }) => requestWith(stand, place, text)),
  );
  notes.count(what, cases.length, all.length);
}

async function askAll(stand: Stand, notes: Notes, cases: readonly Asked[]): Promise<void> {
  for (let n = 0; n < cases.length; n += 8)
    await Promise.all(
      cases.slice(n, n + 8).map(async (asked) => judge(stand, notes, asked, await ask(stand.door, asked))),
    );
}
