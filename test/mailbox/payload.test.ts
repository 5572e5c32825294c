import { deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { checkPayload, payloadOf } from '../../src/payload.ts';
import { codeOf } from '../stores/outcomes.ts';

const json = 'application/json';
/** The value that is read, beside what is said of it. */
async function read(type: string, body: string | Buffer, encoding?: string) {
  const { payloadText, ...more } = await payloadOf(type, encoding, Buffer.from(body));
  return { payload: JSON.parse(payloadText) as unknown, ...more };
}
const textOf = async (type: string, body: string | Buffer, encoding?: string) =>
  (await payloadOf(type, encoding, Buffer.from(body))).payloadText;
const refused = async (type: string, body: string | Buffer, encoding?: string) =>
  await codeOf(checkPayload(type, encoding, Buffer.from(body)));

function multipart(boundary: string, ...parts: [head: string, body: string][]): string {
  const text = parts.map(
    ([head, body]) => `--${boundary}\r\nContent-Disposition: form-data; ${head}\r\n\r\n${body}\r\n`,
  );
  return `${text.join('')}--${boundary}--\r\n`;
}

describe('JSON', () => {
  test.each([
    'application/json',
    'Application/JSON; charset=UTF-8',
    'text/json',
    'application/vnd.api+json',
    'application/cloudevents+json;charset=utf-8',
  ])('of the type %s is its value', async (type) => {
    await checkPayload(type, undefined, Buffer.from('{"a":[1,"ü"]}'));
    expect(await read(type, '{"a":[1,"ü"]}')).toEqual({ payload: { a: [1, 'ü'] } });
  });

  test('that is none is refused, but no body is fine', async () => {
    for (const body of ['{', '{"a":}', '[1,]', ' ', 'undefined', '{"a":1}x', '\u0000'])
      expect(await refused(json, body), body).toBe('invalid');
    expect(await refused(json, Buffer.from([0x22, 0xff, 0x22]))).toBe('invalid');
    await checkPayload(json, undefined, Buffer.alloc(0));
    expect(await read(json, '')).toEqual({ payload: null });
  });

  test('may begin with a byte order mark, and be in another charset', async () => {
    expect(await read(json, '\ufeff{"a":1}')).toEqual({ payload: { a: 1 } });
    await checkPayload(json, undefined, Buffer.from('\ufeff1'));
    expect(await read(`${json}; charset=iso-8859-1`, Buffer.from('"\xfc"', 'latin1'))).toEqual({
      payload: 'ü',
    });
  });

  test('keeps a name like __proto__ as a field like others', async () => {
    expect(await textOf(json, '{"__proto__":{"x":1.0}}')).toBe('{"__proto__":{"x":1.0}}');
  });

  test('that is nested too deep to be written again is base64', async () => {
    for (const depth of [501, 5000, 1_000_000]) {
      const text = `${'[{"a]":'.repeat(depth)}1.0${'}]'.repeat(depth)}`;
      await checkPayload(json, undefined, Buffer.from(text));
      expect((await read(json, text)).encoding).toBe('base64');
    }
    const shallow = `["${'['.repeat(3000)}\\"${'{'.repeat(3000)}", 1.50]`;
    expect((await read(json, shallow)).encoding).toBeUndefined();
  });
});

const number = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
  fc.bigInt().map(String),
  fc.stringMatching(/^-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?$/),
);
const jsonText = fc.letrec<{ value: string }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    number,
    fc.string({ unit: 'binary' }).map((text) => JSON.stringify(text)),
    fc.constantFrom('true', 'false', 'null'),
    fc.array(tie('value'), { maxLength: 4 }).map((items) => `[${items.join(',')}]`),
    fc
      .dictionary(fc.constantFrom('a', 'b2', '-0', '1e5', '__proto__'), tie('value'))
      // Names that are numbers would change their order.
      .map(
        (fields) =>
          `{${Object.entries(fields)
            .map(([name, value]) => `${JSON.stringify(name)}:${value}`)
            .join(',')}}`,
      ),
  ),
})).value;

test('JSON is what was sent, letter by letter, and checking says how long it is', async () => {
  await fc.assert(
    fc.asyncProperty(jsonText, fc.stringMatching(/^[ \t\r\n]*$/), async (text, space) => {
      const body = Buffer.from(`${space}${text}${space}`);
      for (const checked of [false, true])
        expect(await payloadOf(json, undefined, body, { checked })).toEqual({ payloadText: text });
      expect(await checkPayload(json, undefined, body)).toBe(body.length);
      expect(await checkPayload(json, 'gzip', gzipSync(body))).toBe(body.length);
    }),
    { numRuns: 500 },
  );
});

test.each(['1.0', '-0', '1E400', '12345678901234567890', '{"a":1,"a":2}', '[ 1 ,\n 2 ]', '"\\u0041\\ud800"'])(
  'the JSON %s stays as it was written',
  async (text) => {
    expect(await textOf(json, text)).toBe(text);
  },
);

test('JSON that was not checked, and is none, is base64', async () => {
  expect((await payloadOf(json, undefined, Buffer.from('{"a":1.0'))).encoding).toBe('base64');
});

test('numbers cost no more than other text', async () => {
  const body = Buffer.from(`[${'1.50,'.repeat(2_000_000)}1]`);
  const before = performance.now();
  await payloadOf(json, undefined, body, { checked: true });
  expect(performance.now() - before).toBeLessThan(500);
});

describe('a form', () => {
  const form = 'application/x-www-form-urlencoded';

  test('is an object of its fields, of which one that comes again has an array', async () => {
    expect(await read(form, 'a=1&b=x+y%20z&b=%C3%BC&c&a=2&a=')).toEqual({
      payload: { a: ['1', '2', ''], b: ['x y z', 'ü'], c: '' },
    });
  });

  test('may have a field called __proto__ or constructor', async () => {
    expect(await textOf(form, '__proto__=1&constructor=2&__proto__=3')).toBe(
      '{"__proto__":["1","3"],"constructor":"2"}',
    );
    expect(({} as Record<string, unknown>)['1']).toBeUndefined();
  });

  test('of several parts is an object, its files with their bytes', async () => {
    const body = multipart(
      'XX',
      ['name="a"', 'ü'],
      ['name="f"; filename="x.bin"', 'abc'],
      ['name="a"', '2'],
      ['name="__proto__"', '3'],
    );
    const type = 'multipart/form-data; boundary="XX"';
    await checkPayload(type, undefined, Buffer.from(body));
    expect((await read(type, body)).payload).toEqual(
      JSON.parse(
        '{"a":["ü","2"],"f":{"filename":"x.bin","contentType":"text/plain","size":3,"base64":"YWJj"},"__proto__":"3"}',
      ),
    );
  });

  test('of several parts that is malformed is refused, and is base64 where it is there', async () => {
    const type = 'multipart/form-data; boundary=XX';
    for (const body of [
      'x',
      '--XX',
      '--XX\r\n\r\nno disposition\r\n--XX--\r\n',
      multipart('YY', ['name="a"', '1']),
    ]) {
      expect(await refused(type, body), body).toBe('invalid');
      expect((await read(type, body)).encoding).toBe('base64');
    }
    expect(await refused('multipart/form-data', multipart('XX', ['name="a"', '1']))).toBe('invalid');
  });

  test('of several parts may have 25 MB, and a great many parts', async () => {
    const type = 'multipart/form-data; boundary=XX';
    const large = Buffer.from(multipart('XX', ['name="f"; filename="f"', 'a'.repeat(25_000_000)]));
    await checkPayload(type, undefined, large);
    expect((await read(type, large)).payload).toMatchObject({ f: { size: 25_000_000 } });
    const many = multipart(
      'XX',
      ...Array.from({ length: 20_000 }, (_, n) => [`name="n${n}"`, 'v'] as [string, string]),
    );
    const { payload } = await read(type, many);
    expect(Object.keys(payload instanceof Object ? payload : {})).toHaveLength(20_000);
  }, 30_000);
});

describe('text', () => {
  test.each([
    'text/plain',
    'text/html; charset=utf-8',
    'application/xml',
    'application/soap+xml',
    'application/x-ndjson',
    'application/javascript',
    'application/graphql',
    '',
  ])('of the type %j is a string', async (type) => {
    await checkPayload(type, undefined, Buffer.from('<ü>\r\n'));
    expect(await read(type, '<ü>\r\n')).toEqual({ payload: '<ü>\r\n' });
  });

  test('is read in its charset, its byte order mark kept', async () => {
    expect(await read('text/plain; charset="ISO-8859-1"', Buffer.from('gr\xfc\xdfe', 'latin1'))).toEqual({
      payload: 'grüße',
    });
    expect(await read('text/plain;charset=utf-16le', Buffer.from('ü', 'utf16le'))).toEqual({ payload: 'ü' });
    expect(await read('text/plain', '\ufeffa')).toEqual({ payload: '\ufeffa' });
  });

  test('that is not in its charset, or in one that nobody knows, is base64', async () => {
    for (const type of ['text/plain', 'text/plain; charset=utf-8', '', 'text/plain; charset=klingon'])
      expect(await read(type, Buffer.from([0xff, 0xfe, 0xfd])), type).toEqual({
        payload: '//79',
        encoding: 'base64',
      });
  });
});

test('anything else is base64', async () => {
  for (const type of [
    'application/octet-stream',
    'image/png',
    'application/x-unknown',
    'multipart/mixed; boundary=x',
  ])
    expect(await read(type, 'abc')).toEqual({ payload: 'YWJj', encoding: 'base64' });
});

test('what is no Content-Type is refused', async () => {
  for (const type of ['json', '/', 'a/', '/b', 'a b/c', 'a/b c', 'text/plain, text/html', 'text/pläin'])
    expect(await refused(type, '1'), type).toBe('unsupported');
});

describe('a Content-Encoding', () => {
  test.each<[string, (bytes: Buffer) => Buffer]>([
    ['gzip', gzipSync],
    ['X-GZIP', gzipSync],
    ['deflate', deflateSync],
    ['zstd', zstdCompressSync],
    ['identity', (bytes) => bytes],
    ['', (bytes) => bytes],
  ])('%s is undone', async (encoding, compress) => {
    const body = compress(Buffer.from('{"n":1.0}'));
    await checkPayload(json, encoding, body);
    expect(await textOf(json, body, encoding)).toBe('{"n":1.0}');
  });

  test('that is unknown, or that the bytes are not in, is refused', async () => {
    expect(await refused(json, '{}', 'br')).toBe('unsupported');
    expect(await refused(json, '{}', 'gzip, gzip')).toBe('unsupported');
    expect(await refused(json, '', 'br')).toBe('unsupported');
    for (const encoding of ['gzip', 'deflate', 'zstd'])
      expect(await refused(json, '{}', encoding)).toBe('invalid');
    expect(await refused(json, gzipSync('{'), 'gzip')).toBe('invalid');
    expect(await refused(json, gzipSync('{}').subarray(0, -9), 'gzip')).toBe('invalid');
  });

  test('that makes more of it than the limit is refused, and read as base64 of what came', async () => {
    for (const [encoding, bomb] of [
      ['gzip', gzipSync(Buffer.alloc(1_000_001))],
      ['zstd', zstdCompressSync(Buffer.alloc(1_000_001))],
    ] as const) {
      expect(await codeOf(checkPayload('text/plain', encoding, bomb, 1_000_000))).toBe('too_large');
      await checkPayload('text/plain', encoding, bomb, 1_000_001);
      expect(await payloadOf('text/plain', encoding, bomb, { limit: 1_000_000 })).toEqual({
        payloadText: JSON.stringify(bomb.toString('base64')),
        encoding: 'base64',
      });
    }
  });
});

const contentType = fc.oneof(
  fc.constantFrom(
    json,
    '',
    'text/plain',
    'text/plain; charset=utf-16be',
    'application/json; charset=shift_jis',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=XX',
    'multipart/form-data',
    'multipart/form-data; boundary=ü',
    'application/pdf',
  ),
  fc.string({ unit: 'binary', maxLength: 30 }),
);
const body = fc.oneof(
  fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
  jsonText.map((text) => Buffer.from(text)),
  fc
    .string({
      unit: fc.constantFrom('-', 'X', '\r', '\n', ':', ';', '"', '=', 'a', '&', '%', '{', '[', '\ud800'),
    })
    .map((text) => Buffer.from(text)),
  fc
    .array(
      fc.tuple(fc.string({ unit: 'binary', maxLength: 8 }), fc.string({ unit: 'binary', maxLength: 8 })),
      { minLength: 1, maxLength: 3 },
    )
    .map((parts) =>
      Buffer.from(
        multipart('XX', ...parts.map(([name, value]) => [`name="${name}"`, value] as [string, string])),
      ),
    ),
);

test('a payload is always read, and can always be written as JSON', async () => {
  await fc.assert(
    fc.asyncProperty(
      contentType,
      fc.constantFrom(undefined, 'gzip', 'zstd', 'br', 'x'),
      fc.boolean(),
      body,
      async (type, encoding, really, bytes) => {
        const sent = really && encoding === 'gzip' ? gzipSync(bytes) : bytes;
        let taken = true;
        try {
          await checkPayload(type, encoding, sent);
        } catch (error) {
          if (!(error instanceof NexusError)) throw error;
          taken = false;
        }
        const read = await payloadOf(type, encoding, sent, { checked: taken });
        const payload: unknown = JSON.parse(read.payloadText);
        // What was let in as JSON or as a form is one when it is read.
        const known = taken && /^(application\/json|multipart\/form-data|application\/x-www)/.test(type);
        expect(known && read.encoding).not.toBe('base64');
        const back = read.encoding === 'base64' ? Buffer.from(String(payload), 'base64') : sent;
        expect(encoding !== undefined || back.equals(sent)).toBe(true);
      },
    ),
    { numRuns: 1500 },
  );
});
