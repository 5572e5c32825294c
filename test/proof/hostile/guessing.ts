import { makeKey } from '../../../src/keys.ts';
import { ask, type Asked } from './asked.ts';
import { judge } from './judge.ts';
import type { Notes } from './notes.ts';
import { hubSecret, type Stand } from './stand.ts';

/** Wrong ones that are answered as such before there are too many, and how many are tried. */
const allowed = 60;
const tries = 150;
/** As many as are let in while they are tried: a bucket refills once a second. */
const slack = 40;

interface Door {
  name: string;
  guess: (wrong: string) => Asked;
  /** With what is right, which must open all the while. */
  right: Asked;
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
      guess: (key) => get('/api/store', ['x-functions-key', key]),
      right: get('/api/store', ['x-functions-key', keys.alpha]),
    },
    {
      name: 'a key in the query',
      guess: (key) => get(`/api/sessions?code=${key}`),
      right: get(`/api/sessions?code=${keys.alpha}`),
    },
    {
      name: 'a key for the metrics',
      guess: (key) => get('/metrics', ['authorization', `Bearer ${key}`]),
      right: get('/metrics', ['authorization', `Bearer ${keys.operator}`]),
    },
    {
      name: 'a key for webhooks',
      guess: (key) => post('/api/webhook/alpha?source=plain', ['x-functions-key', key]),
      right: post('/api/webhook/alpha?source=plain', ['x-functions-key', keys.alpha]),
    },
    { name: "a webhook's secret", guess: secret, right: secret(hubSecret) },
    { name: "Meta's token", guess: meta, right: meta(hubSecret) },
    { name: 'the sign-in', guess: signIn, right: signIn(keys.alpha) },
  ];
}

/** Wrong keys and secrets from one address, far more than anybody mistypes; the right one opens meanwhile. */
export async function guessKeys(stand: Stand, notes: Notes): Promise<void> {
  for (const { name, guess, right } of doorsOf(stand)) {
    let limited = 0;
    let told = 0;
    for (let n = 0; n < tries; n += 10) {
      const wrong = Array.from({ length: 10 }, () => guess(makeKey()));
      for (const asked of wrong) {
        const answer = await ask(stand.door, asked);
        judge(stand, notes, asked, answer);
        notes.count('wrong keys and secrets');
        if (answer?.status === 429) limited += 1;
        else told += 1;
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
      notes.broken('Guesses are not limited.', `${name}: of ${tries} wrong ones ${told} were told so`);
  }
}
