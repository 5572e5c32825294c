import { makeKey } from '../../../src/keys.ts';
import { ask, type Asked } from './asked.ts';
import { judge } from './judge.ts';
import type { Notes } from './notes.ts';
import { hubSecret, type Stand } from './stand.ts';

/** Wrong ones that are answered without a time to come back at before there are too many, and how many are tried. */
const allowed = 60;
const tries = 150;
/** As many as are let in while they are tried: a bucket refills once a second. */
const slack = 40;

interface Door {
  name: string;
  guess: (wrong: string) => Asked;
  /** With what is right, which must open all the while. */
  right: Asked;
  /** A key is told to be wrong however many were: who heard anything else would take it for an outage. */
  byKey: boolean;
}

const form: Asked['headers'] = [
  ['content-type', 'application/x-www-form-urlencoded'],
  ['sec-fetch-site', 'same-origin'],
];

function doorsOf({ keys }: Stand): Door[] {
  const get = (url: string, ...headers: Asked['headers']): Asked => ({ method: 'GET', url, headers });
  const post = (url: string, ...headers: Asked['headers']): Asked => ({
    method: 'POST',
    url,
    headers,
    body: Buffer.from('{}'),
  });
  const signIn = (key: string): Asked => ({
    method: 'POST',
    url: '/sign-in',
    headers: form,
    body: Buffer.from(`key=${key}&to=`),
  });
  const meta = (token: string): Asked =>
    get(`/api/webhook/alpha?source=meta&hub.mode=subscribe&hub.challenge=1&hub.verify_token=${token}`);
  const secret = (one: string): Asked => post('/api/webhook/alpha?source=secret', ['x-webhook-secret', one]);
  return [
    {
      name: 'a key in the header',
      byKey: true,
      guess: (key) => get('/api/store', ['x-functions-key', key]),
      right: get('/api/store', ['x-functions-key', keys.alpha]),
    },
    {
      name: 'a key in the query',
      byKey: true,
      guess: (key) => get(`/api/sessions?code=${key}`),
      right: get(`/api/sessions?code=${keys.alpha}`),
    },
    {
      name: 'a key for the metrics',
      byKey: true,
      guess: (key) => get('/metrics', ['authorization', `Bearer ${key}`]),
      right: get('/metrics', ['authorization', `Bearer ${keys.operator}`]),
    },
    {
      name: 'a key for webhooks',
      byKey: false,
      guess: (key) => post('/api/webhook/alpha?source=plain', ['x-functions-key', key]),
      right: post('/api/webhook/alpha?source=plain', ['x-functions-key', keys.alpha]),
    },
    { name: "a webhook's secret", byKey: false, guess: secret, right: secret(hubSecret) },
    { name: "Meta's token", byKey: false, guess: meta, right: meta(hubSecret) },
    { name: 'the sign-in', byKey: true, guess: signIn, right: signIn(keys.alpha) },
  ];
}

/** Wrong keys and secrets from one address, far more than anybody mistypes; the right one opens meanwhile. */
export async function guessKeys(stand: Stand, notes: Notes): Promise<void> {
  for (const { name, guess, right, byKey } of doorsOf(stand)) {
    let limited = 0;
    let told = 0;
    for (let n = 0; n < tries; n += 10) {
      const wrong = Array.from({ length: 10 }, () => guess(makeKey()));
      for (const asked of wrong) {
        const answer = await ask(stand.door, asked);
        judge(stand, notes, asked, answer);
        notes.count('wrong keys and secrets');
        const isLimited = byKey ? answer?.headers.has('retry-after') === true : answer?.status === 429;
        if (isLimited) limited += 1;
        else told += 1;
        if (byKey && answer !== undefined && answer.status !== 401)
          notes.broken('A wrong key is not told to be one.', `${name}: ${answer.status}`);
        if (answer?.status === 429 && !answer.headers.has('retry-after'))
          notes.broken('Who guesses too often is not told when to come back.', name);
        if (answer !== undefined && answer.status < 400)
          notes.broken('A wrong key was let in.', `${name}: ${answer.status}`);
      }
      const answer = await ask(stand.door, right);
      // The operator may see what is beta's.
      if ((answer?.status ?? 999) >= 400)
        notes.broken(
          'A right key is kept out by guesses of others.',
          `${name}: ${answer?.status ?? 'no answer'}`,
        );
    }
    if (limited === 0 || told > allowed + slack)
      notes.broken(
        'Guesses are not limited.',
        `${name}: of ${tries} wrong ones ${told} were told no more than so`,
      );
  }
}
