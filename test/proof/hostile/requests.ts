import { gzipSync, zstdCompressSync } from 'node:zlib';
import * as fc from 'fast-check';
import type { Asked } from './asked.ts';
import { type Base, bodyOf, credential, encoded, urlOf } from './bases.ts';
import { bytes, changed, json, text } from './nasty.ts';
import type { Stand } from './stand.ts';

const names = [
  [
    'agentId',
    'agent',
    'limit',
    'cursor',
    'since',
    'from',
    'to',
    'tz',
    'by',
    'model',
    'provider',
    'trigger',
    'host',
  ],
  [
    'session',
    'job',
    'source',
    'last',
    'state',
    'offset',
    'ascending',
    'code',
    'secret',
    'token',
    'validationToken',
  ],
  [
    'hub.mode',
    'hub.challenge',
    'hub.verify_token',
    'page',
    'sort',
    'q',
    '__proto__',
    'constructor',
    '',
    'then',
  ],
].flat();

const fields = [
  [
    'accept',
    'accept-encoding',
    'content-type',
    'content-encoding',
    'content-digest',
    'range',
    'if-range',
    'expect',
  ],
  [
    'upload-offset',
    'upload-complete',
    'nexus-about',
    'want-repr-digest',
    'cache-control',
    'x-nexus-host',
    'origin',
  ],
  [
    'x-functions-key',
    'authorization',
    'cookie',
    'x-forwarded-for',
    'x-forwarded-host',
    'x-forwarded-proto',
    'forwarded',
  ],
  [
    'x-hub-signature-256',
    'x-github-delivery',
    'stripe-signature',
    'x-slack-signature',
    'x-slack-request-timestamp',
  ],
  [
    'webhook-id',
    'webhook-timestamp',
    'webhook-signature',
    'svix-id',
    'x-gitlab-token',
    'idempotency-key',
    'x-sign',
  ],
  [
    'x-shopify-hmac-sha256',
    'linear-signature',
    'x-telegram-bot-api-secret-token',
    'x-twilio-signature',
    'x-webhook-secret',
  ],
  [
    'sec-fetch-site',
    'x-http-method-override',
    'upgrade',
    'te',
    'trailer',
    'referer',
    'user-agent',
    '__proto__',
  ],
].flat();

const sources = [
  'github',
  'stripe',
  'slack',
  'standard',
  'gitlab',
  'shopify',
  'linear',
  'telegram',
  'twilio',
  'secret',
].concat(['meta', 'hmac', 'graph', 'putio', 'deep', 'plain', 'svix', '__proto__']);

const types = [
  [
    'application/json',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=b',
    'text/plain',
    'text/html',
  ],
  [
    'application/octet-stream',
    'application/partial-upload',
    'application/vnd.x+json',
    'image/png',
    'multipart/mixed',
    '',
    '/',
  ],
  [
    'application/json; charset=utf-16',
    'multipart/form-data',
    'multipart/form-data; boundary="; x"',
    'a'.repeat(5000),
  ],
].flat();

const codings = ['gzip', 'zstd', 'br', 'deflate', 'identity', 'gzip, gzip', 'GZIP', 'x', ''];
const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND'];

/** What a line of a head can carry; other bytes are for those that are no HTTP. */
function fieldValue(value: string): string {
  return Buffer.from(value.toWellFormed(), 'utf8')
    .toString('latin1')
    .replace(/[^\x20-\x7e\x80-\xff\t]/g, '');
}

/** Requests to one route of which one part or several are hostile, the others as it takes them. */
export function hostileTo(
  stand: Stand,
  route: { method: string; url: string },
  base: () => Base,
): fc.Arbitrary<Asked> {
  const usual = base();
  const part = fc.oneof(
    text.map((one) => encoded(one)),
    fc.constantFrom(...raw),
    fc.constantFrom(...theirs(stand)),
  );
  const params = fc.tuple(
    ...Object.entries(usual.params ?? {}).map(([name, value]) => param(name, value, part)),
  );
  const seldom = <T>(one: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
    fc.option(one, { nil: undefined, freq: 2 });
  const more = fc.array(fc.tuple(fc.constantFrom(...names, ...Object.keys(usual.query ?? {})), part), {
    maxLength: 3,
  });
  const heads = fc.array(
    fc.tuple(fc.constantFrom(...fields, ...Object.keys(usual.headers ?? {})), text.map(fieldValue)),
    { maxLength: 3 },
  );
  const as = fc.constantFrom<Base['as'][]>(usual.as, usual.as, usual.as, 'nobody', 'page', undefined);
  return fc
    .record({
      method: fc.oneof({ weight: 12, arbitrary: fc.constant(route.method) }, fc.constantFrom(...methods)),
      params,
      more: seldom(more),
      heads: seldom(heads),
      source: fc.option(fc.constantFrom(...sources), { nil: undefined }),
      as,
      body: seldom(body(usual)),
      type: fc.option(fc.constantFrom(...types), { nil: undefined }),
      coding: fc.option(fc.constantFrom(...codings), { nil: undefined }),
      packed: fc.boolean(),
      chunks: fc.option(fc.constantFrom(1, 7, 1000, 100_000), { nil: undefined }),
    })
    .map((made) => assembled(stand, route.url, base(), made));
}

const raw = [
  '%',
  '%00',
  '%2e%2e',
  '%2e%2e%2f',
  '..',
  '.',
  '%ff%fe',
  '%u0041',
  '%ed%a0%80',
  ';x=1',
  '%0d%0aX-Injected:%201',
  '+',
];

/** What is beta's, as alpha would name it; those that matter most first. */
export function theirs({ known }: Stand): string[] {
  const cursor = (...parts: unknown[]): string => Buffer.from(JSON.stringify(parts)).toString('base64url');
  return [
    'beta',
    known.betaItem,
    cursor('beta', 'known'),
    'alpha,beta',
    'known',
    'alpha&agentId=beta',
    'alpha&agent=beta',
    '*',
    '__Host-nexus',
  ].concat([cursor('beta', ''), cursor('alpha', '~'), cursor(null, {}), cursor('a'.repeat(9000), '')]);
}

function param(name: string, value: string, part: fc.Arbitrary<string>): fc.Arbitrary<[string, string]> {
  return fc.oneof(
    { weight: 2, arbitrary: fc.constant<[string, string]>([name, encoded(value)]) },
    { weight: 1, arbitrary: part.map((one): [string, string] => [name, one]) },
  );
}

function body(base: Base): fc.Arbitrary<Uint8Array> {
  const { body: usual = Buffer.alloc(0) } = bodyOf(base);
  const form = fc.array(fc.tuple(text, text), { maxLength: 4 });
  return fc.oneof(
    {
      weight: 4,
      arbitrary: (base.json === undefined ? json : changed(base.json)).map((one) => Buffer.from(one)),
    },
    { weight: 1, arbitrary: json.map((one) => Buffer.from(one)) },
    { weight: 1, arbitrary: bytes },
    {
      weight: 1,
      arbitrary: form.map((pairs) => Buffer.from(pairs.map((pair) => pair.map(encoded).join('=')).join('&'))),
    },
    { weight: 1, arbitrary: form.map((pairs) => Buffer.from(multipart(pairs))) },
    { weight: 1, arbitrary: fc.nat(usual.length).map((end) => usual.subarray(0, end)) },
  );
}

function multipart(pairs: readonly [string, string][]): string {
  const parts = pairs.map(
    ([name, value], nth) =>
      `--b\r\nContent-Disposition: form-data; name="${name}"${nth % 2 === 0 ? '' : `; filename="${value}"`}\r\n\r\n${value}\r\n`,
  );
  return `${parts.join('')}--b${pairs.length % 3 === 0 ? '' : '--'}\r\n`;
}

interface Made {
  method: string;
  params: [string, string][];
  more: [string, string][] | undefined;
  heads: [string, string][] | undefined;
  source: string | undefined;
  as: Base['as'];
  body: Uint8Array | undefined;
  type: string | undefined;
  coding: string | undefined;
  packed: boolean;
  chunks: number | undefined;
}

function assembled(stand: Stand, url: string, base: Base, made: Made): Asked {
  const usual = bodyOf(base);
  const query: [string, string][] = Object.entries(base.query ?? {}).map(([name, value]) => [
    name,
    encoded(name === 'source' ? (made.source ?? value) : value),
  ]);
  const has = usual.body !== undefined || made.body !== undefined;
  const type = made.type ?? usual.type;
  const plain = made.body ?? usual.body;
  const coding = has ? made.coding : undefined;
  const headers: Asked['headers'] = [
    ...credential(stand, made.as),
    ...(has && type !== undefined ? [['content-type', type] as [string, string]] : []),
    ...(coding === undefined ? [] : [['content-encoding', coding] as [string, string]]),
    ...Object.entries(base.headers ?? {}),
    ...(made.heads ?? []),
  ];
  return {
    method: made.method,
    url: urlOf(url, Object.fromEntries(made.params), [...query, ...(made.more ?? [])]),
    // A second length or coding of the transfer is another kind of case.
    headers,
    ...(plain === undefined ? {} : { body: made.packed ? pack(plain, coding) : plain }),
    ...(made.chunks === undefined || (plain?.length ?? 0) / made.chunks > 5000
      ? {}
      : { chunks: made.chunks }),
  };
}

function pack(plain: Uint8Array, coding: string | undefined): Uint8Array {
  if (coding === 'gzip') return gzipSync(plain);
  return coding === 'zstd' ? zstdCompressSync(plain) : plain;
}
