import { fstatSync } from 'node:fs';
import { PassThrough, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Environment } from '../src/configfile.ts';
import { formatAge, formatBytes, formatCount, formatDuration, formatItems, visible } from '../src/format.ts';
import type { LogSettings } from '../src/logline.ts';
import { createOutput, type Output, type Sink } from '../src/output.ts';
import { widthOf } from '../src/table.ts';

interface Shown {
  output: Output;
  stdout: () => string;
  stderr: () => string;
}

interface Situation {
  json?: boolean;
  env?: Environment;
  /** Width of the terminal that both streams are. */
  terminal?: number;
  progressEveryMs?: number;
  /** What is below stderr. */
  fd?: number;
  /** stderr is the journal, for which this process's stdin stands. */
  journal?: boolean;
  log?: LogSettings;
}

function show({
  json = false,
  env: said = {},
  terminal,
  progressEveryMs = 10_000,
  journal = false,
  fd = journal ? 0 : undefined,
  log = {},
}: Situation = {}): Shown {
  const { dev, ino } = fstatSync(0, { bigint: true });
  const env = journal ? { ...said, JOURNAL_STREAM: `${dev}:${ino}` } : said;
  const streams = [terminalOf(terminal), terminalOf(terminal)] as const;
  const [stdout, stderr] = streams.map((stream) => collected(stream));
  return {
    output: createOutput({
      stdout: streams[0],
      stderr: fd === undefined ? streams[1] : Object.assign(streams[1], { fd }),
      json,
      env,
      progressEveryMs,
      log,
    }),
    stdout: () => stdout?.() ?? '',
    stderr: () => stderr?.() ?? '',
  };
}

function terminalOf(columns: number | undefined): PassThrough & Sink {
  const stream = new PassThrough();
  // What ora asks of a terminal.
  const terminal = { cursorTo: () => true, clearLine: () => true, moveCursor: () => true };
  return columns === undefined ? stream : Object.assign(stream, terminal, { isTTY: true, columns });
}

function collected(stream: PassThrough): () => string {
  let text = '';
  stream.setEncoding('utf8').on('data', (part: string) => (text += part));
  return () => text;
}

function failing(code: string): Sink {
  return new Writable({
    write(_chunk, _encoding, done) {
      done(Object.assign(new Error(code), { code }));
    },
  });
}

describe('results', () => {
  test('go to stdout and everything else to stderr', async () => {
    const { output, stdout, stderr } = show();
    output.result('a result');
    output.info('a note');
    output.warn('a doubt');
    output.error('a fault');
    await output.flush();
    expect(stdout()).toBe('a result\n');
    expect(stderr()).toBe('a note\nwarning: a doubt\nerror: a fault\n');
  });

  test('with --json stdout has the object and no text', async () => {
    const { output, stdout } = show({ json: true });
    output.result('text');
    output.table([{ title: 'A' }], [['x']]);
    expect(output.answered).toBe(false);
    output.result({ ok: true, name: 'a\u001b[2J\u009b\u202e\nb' });
    await output.flush();
    expect(stdout()).toMatch(/^[ -~]*\n$/);
    expect(JSON.parse(stdout())).toEqual({ ok: true, name: 'a\u001b[2J\u009b\u202e\nb' });
    expect(output.answered).toBe(true);
  });

  test('what would control the terminal is written out', () => {
    const { output, stdout, stderr } = show();
    output.result('a\u001b]0;title\u0007b\r\u009b2J\n\u202ec');
    output.warn('\u001b[2Jgone');
    expect(stdout()).toBe('a\\u{1b}]0;title\\u{7}b\\u{d}\\u{9b}2J\n\\u{202e}c\n');
    expect(stderr()).toBe('warning: \\u{1b}[2Jgone\n');
  });

  test('a reader that has gone is no error', async () => {
    const output = createOutput({
      stdout: failing('EPIPE'),
      stderr: new PassThrough(),
      json: false,
      env: {},
    });
    output.result('lost');
    expect(await output.write(Buffer.from('lost'))).toBe(false);
    await output.flush();
    output.result('lost too');
    await output.flush();
  });

  test('a result that cannot be written is an error that says so', async () => {
    const output = createOutput({
      stdout: failing('ENOSPC'),
      stderr: new PassThrough(),
      json: false,
      env: {},
    });
    output.result('lost');
    await expect(output.flush()).rejects.toMatchObject({ code: 'unavailable', message: /ENOSPC/ });
  });

  test('bytes are taken at the pace of the reader', async () => {
    const stdout = new PassThrough({ highWaterMark: 10 });
    const output = createOutput({ stdout, stderr: new PassThrough(), json: false, env: {} });
    let taken = false;
    const writing = output.write(Buffer.alloc(100)).then(() => (taken = true));
    await sleep(10);
    expect(taken).toBe(false);
    stdout.resume();
    await writing;
    expect(taken).toBe(true);
  });
});

describe('tables', () => {
  const columns = [{ title: 'NAME' }, { title: 'COUNT' }];

  test('are aligned, numbers to the right', () => {
    const { output, stdout } = show();
    output.table(columns, [
      ['a', 1],
      ['long name', 1000],
    ]);
    expect(stdout()).toBe('NAME       COUNT\na              1\nlong name   1000\n');
  });

  test('are cut to the width of a terminal and nowhere else', () => {
    const rows = [['x'.repeat(200), 1]];
    const narrow = show({ terminal: 40 });
    narrow.output.table(columns, rows);
    expect(narrow.stdout()).toContain(`${'x'.repeat(32)}…`);
    const piped = show();
    piped.output.table(columns, rows);
    expect(piped.stdout()).toContain('x'.repeat(200));
  });

  test('keep to one line a row, whatever a name holds', () => {
    const { output, stdout } = show();
    output.table(columns, [['a\nb\tc\u001b[31m', 1]]);
    expect(stdout().trimEnd().split('\n')).toHaveLength(2);
    expect(stdout()).toContain('a\\u{a}b\\u{9}c\\u{1b}[31m');
  });

  test('never get wider than the terminal', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme', maxLength: 60 }), { minLength: 1 }), (names) => {
        const { output, stdout } = show({ terminal: 50 });
        output.table(
          columns,
          names.map((name) => [name, name.length]),
        );
        expect(Math.max(...stdout().split('\n').map(widthOf))).toBeLessThanOrEqual(50);
      }),
      { numRuns: 50 },
    );
  });
});

describe('colours', () => {
  const red = '\u001b[31m';
  test.each<[Situation, boolean]>([
    [{ terminal: 80 }, true],
    [{}, false],
    [{ terminal: 80, env: { NO_COLOR: '1' } }, false],
    [{ terminal: 80, env: { TERM: 'dumb' } }, false],
    [{ env: { FORCE_COLOR: '1' } }, true],
    [{ terminal: 80, env: { FORCE_COLOR: '0' } }, false],
    [{ env: { FORCE_COLOR: '1' }, journal: true }, false],
  ])('with %j they are shown: %s', (situation, coloured) => {
    const { output, stderr } = show(situation);
    output.error('x');
    expect(stderr().includes(red)).toBe(coloured);
  });
});

test('what is quoted in a message begins no line of its own and has no colour', async () => {
  const { output, stdout, stderr } = show();
  output.error('agent \u001b[8mx\nerror: forged');
  output.result('agent \u001b[31mx');
  await output.flush();
  expect(stderr()).toBe('error: agent \\u{1b}[8mx\\u{a}error: forged\n');
  expect(stdout()).toBe('agent \\u{1b}[31mx\n');
});

describe('under journald', () => {
  test('each entry is one line with its priority', () => {
    const { output, stderr } = show({ journal: true, log: { level: 'debug' } });
    output.info('a\nb', { job: 'upload', ok: true, ms: 3 });
    output.warn('c', { reason: 'of "this"', agent: 'main', item: undefined });
    output.error('d');
    output.debug('e');
    expect(stderr()).toBe(
      '<6>message="a\\nb" job=upload ok=true ms=3\n<4>message=c reason="of \\"this\\"" agent=main\n<3>message=d\n<7>message=e\n',
    );
  });

  test('stderr that goes elsewhere has no priorities, though the variable was inherited', () => {
    const { output, stderr } = show({ env: { JOURNAL_STREAM: '8:1' }, fd: 0 });
    output.error('d');
    expect(stderr()).toBe('error: d\n');
  });

  test('a terminal gets no priorities', () => {
    const { output, stderr } = show({ journal: true, env: { NO_COLOR: '1' }, terminal: 80 });
    output.error('d');
    expect(stderr()).toBe('error: d\n');
  });
});

describe('progress', () => {
  test('without a terminal is a line now and then, and only when there is something new', async () => {
    const { output, stdout, stderr } = show({ progressEveryMs: 20 });
    const progress = output.progress();
    progress.update('1 of 3');
    progress.update('2 of 3');
    await sleep(90);
    progress.stop();
    progress.update('3 of 3');
    await sleep(50);
    expect(stderr()).toBe('2 of 3\n');
    expect(stdout()).toBe('');
  });

  test('on a terminal is drawn, and gone when it stops', async () => {
    const { output, stderr } = show({ terminal: 80 });
    const progress = output.progress();
    progress.update('1 of 3\u001b[2J');
    await expect.poll(stderr, { timeout: 5000 }).toContain('1 of 3\\u{1b}[2J');
    output.warn('beside it');
    expect(stderr()).toMatch(/warning:.* beside it\n/);
    progress.stop();
    const before = stderr();
    await sleep(200);
    expect(stderr()).toBe(before);
  });

  test('on a terminal without columns is not drawn, which would never end', async () => {
    const { output, stderr } = show({ terminal: 0, progressEveryMs: 20 });
    const progress = output.progress();
    progress.update('1 of 3');
    await expect.poll(stderr, { timeout: 5000 }).toContain('1 of 3\n');
    progress.stop();
    expect(stderr()).toBe('1 of 3\n');
  });

  test('that is stopped at once draws nothing', async () => {
    const { output, stderr } = show({ terminal: 80 });
    output.progress().stop();
    await sleep(200);
    expect(stderr()).toBe('');
  });
});

test('bytes, counts, durations and ages are written for people', () => {
  expect([0, 1023, 1024, 1536, 10_239, 1_048_575, 3_221_225_472].map(formatBytes)).toEqual([
    '0 B',
    '1023 B',
    '1.0 KiB',
    '1.5 KiB',
    '10 KiB',
    '1.0 MiB',
    '3.0 GiB',
  ]);
  expect([formatCount(1_234_567), formatItems(1, 'file'), formatItems(2000, 'file')]).toEqual([
    '1,234,567',
    '1 file',
    '2,000 files',
  ]);
  expect([0, 350, 1000, 59_900, 200_000, 7_500_000, 273_600_000].map(formatDuration)).toEqual([
    '0 ms',
    '350 ms',
    '1 s',
    '1 min',
    '3 min 20 s',
    '2 h 5 min',
    '3 d 4 h',
  ]);
  expect([0, 59_999, 300_000, 3 * 86_400_000, -7_200_000].map((ago) => formatAge(1e9 - ago, 1e9))).toEqual([
    'now',
    '59 s ago',
    '5 min ago',
    '3 d ago',
    'in 2 h',
  ]);
});

test('visible text never holds a control character, and plain text stays as it is', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      expect(visible(text)).not.toMatch(/[\p{Cc}\p{Cs}\u2028\u2029\u202a-\u202e\u2066-\u2069]/u);
    }),
  );
  fc.assert(
    fc.property(fc.string(), (text) => {
      expect(visible(text)).toBe(text);
    }),
  );
});
