import { fstatSync } from 'node:fs';
import { styleText } from 'node:util';
import type { Environment } from './configfile.ts';
import { NexusError } from './errors.ts';
import { visible, visibleLines } from './format.ts';
import {
  type Entry,
  escaped,
  type Facts,
  framesIn,
  jsonEntry,
  journalLine,
  type Level,
  levels,
  type LogSettings,
  type Say,
} from './logline.ts';
import { type Cell, type Column, layOut } from './table.ts';

/** What is written to: the process's own streams, or a test's. */
export interface Sink extends NodeJS.WritableStream {
  isTTY?: boolean;
  columns?: number;
  rows?: number;
  /** The file descriptor below it, where it has one. */
  fd?: number;
}

export interface OutputOptions {
  stdout: Sink;
  stderr: Sink;
  /** `--json`: stdout gets one object and nothing else. */
  json: boolean;
  env: Environment;
  /** Between two lines of progress where there is no terminal, ms. */
  progressEveryMs?: number;
  /** What the command line and the environment say of the log: it cannot be set otherwise by `logAs`. */
  log?: LogSettings;
  /** On every entry of the log. */
  facts?: Facts;
  now?: () => Date;
}

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

/** A line on stderr that says how far a job is. Writing anything else meanwhile does not disturb it. */
export interface Progress {
  update: (text: string) => void;
  /** Takes the line away. May be called again. */
  stop: () => void;
}

/**
 * The only writer to the terminal: results to stdout, everything else to stderr. What would control the terminal
 * is written out, wherever it came from. A reader that has gone (EPIPE) is no error; results that cannot be
 * written are, and `flush` throws it.
 */
export interface Output {
  readonly json: boolean;
  /** stdout is a terminal. */
  readonly terminal: boolean;
  /** stderr has sentences for people; else it is a log for programs, which wants every fact and no repetition. */
  readonly forPeople: boolean;
  /** stdout is the journal, as stderr is: what an entry says there is not to be said by a result too. */
  readonly inJournal: boolean;
  /** Cells of the terminal that stdout is; absent elsewhere, and where nobody said. */
  readonly size: { width: number | undefined; height: number | undefined };
  /** Nobody reads stdout any more. */
  readonly gone: boolean;
  /** A result is already on stdout. */
  readonly answered: boolean;
  /** Text with a newline after it, or one object as one line of JSON. With `json` text is left out. */
  result: (value: string | object) => void;
  /** One object that is written as JSON already, on one line. */
  resultJson: (text: string) => void;
  /** Aligned text, a heading first; nothing with `json`. Cut to the width of a terminal, and whole elsewhere. */
  table: (columns: readonly Column[], rows: readonly (readonly Cell[])[]) => void;
  /** Raw bytes on stdout, resolved when they are taken; false when the reader has gone. */
  write: (bytes: Uint8Array) => Promise<boolean>;
  error: Say;
  warn: Say;
  info: Say;
  debug: Say;
  log: (entry: Entry) => void;
  /** A run in one line of the log; nothing for people, whom a result tells. */
  summary: Say;
  /** How the configuration wants the log, as far as nothing else was said. */
  logAs: (settings: LogSettings) => void;
  progress: () => Progress;
  /** Coloured for stdout, where that shows colours. */
  style: (style: Style, text: string) => string;
  /** Resolves when everything is written. `unavailable` when a result could not be. */
  flush: () => Promise<void>;
}

export function createOutput({
  stdout,
  stderr,
  json,
  env,
  progressEveryMs = 10_000,
  log: said = {},
  facts: always = {},
  now = () => new Date(),
}: OutputOptions): Output {
  const journal = isJournal(stderr, env);
  let { level = 'info', format = 'text' } = said;
  const pending = new Set<Promise<void>>();
  let answered = false;
  let gone = false;
  let failure: NexusError | undefined;
  let spinner: { clear(): void; render(): void } | undefined;

  stdout.on('error', fail);
  // There is nobody left to tell.
  stderr.on('error', () => undefined);

  function fail(error: Error): void {
    const code = 'code' in error ? String(error.code) : error.message;
    gone = true;
    if (code === 'EPIPE' || code === 'ERR_STREAM_DESTROYED') return;
    failure ??= new NexusError('unavailable', `The result could not be written to stdout (${code}).`, {
      cause: error,
    });
  }

  function put(data: string | Uint8Array): Promise<void> {
    if (gone) return Promise.resolve();
    const done = new Promise<void>((resolve) => {
      stdout.write(data, (error) => {
        if (error) fail(error);
        resolve();
      });
    }).finally(() => pending.delete(done));
    pending.add(done);
    return done;
  }

  /** Around other lines, so that a spinner's line does not end up among them. */
  function aside(work: () => void): void {
    spinner?.clear();
    work();
    spinner?.render();
  }

  function print(text: string): void {
    answered = true;
    aside(() => void put(`${text}\n`));
  }

  function say(level: Level, text: string, facts?: Facts): void {
    log({ level, message: text, ...(facts === undefined ? {} : { facts }) });
  }

  function log(entry: Entry): void {
    if (levels.indexOf(entry.level) > levels.indexOf(level)) return;
    const whole = { ...entry, facts: { ...always, ...entry.facts } };
    const line =
      format === 'json' ? jsonEntry(whole, now()) : journal ? journalLine(whole) : lineForPeople(entry);
    aside(() => stderr.write(`${line}\n`));
  }

  function lineForPeople({ level, message, facts, shown }: Entry): string {
    // One line and in no colour but ours, whatever is quoted in it.
    const text = [shown ?? message, ...framesIn(facts?.stack)].map(visible).join('\n');
    if (shown !== undefined || level === 'info') return text;
    if (level === 'error') return `${paint(stderr, 'red', 'error:')} ${text}`;
    if (level === 'warn') return `${paint(stderr, 'yellow', 'warning:')} ${text}`;
    return paint(stderr, 'dim', `debug: ${text}`);
  }

  function forPeople(): boolean {
    return format === 'text' && !journal;
  }

  return {
    json,
    terminal: stdout.isTTY === true,
    get forPeople() {
      return forPeople();
    },
    inJournal: isJournal(stdout, env),
    get size() {
      const there = stdout.isTTY === true;
      // 0 where nobody said.
      return { width: (there && stdout.columns) || undefined, height: (there && stdout.rows) || undefined };
    },
    get gone() {
      return gone;
    },
    get answered() {
      return answered;
    },
    result(value) {
      if (typeof value !== 'string') print(escaped(JSON.stringify(value)));
      else if (!json) print(visibleLines(value, showsColours(stdout)));
    },
    // A line's end is in none of the strings of JSON, only between its values.
    resultJson: (text) => print(escaped(text.replace(/[\r\n]+/g, ' '))),
    table(columns, rows) {
      if (json) return;
      print(layOut(columns, rows, stdout.isTTY === true ? stdout.columns : undefined).join('\n'));
    },
    async write(bytes) {
      answered = true;
      await put(bytes);
      if (failure !== undefined) throw failure;
      return !gone;
    },
    error: (text, facts) => say('error', text, facts),
    warn: (text, facts) => say('warn', text, facts),
    info: (text, facts) => say('info', text, facts),
    debug: (text, facts) => say('debug', text, facts),
    log,
    summary(text, facts) {
      if (!forPeople()) say('info', text, facts);
    },
    logAs(settings) {
      level = said.level ?? settings.level ?? level;
      format = said.format ?? settings.format ?? format;
    },
    progress() {
      // A terminal that has no width has no room for a line that is drawn over: ora would take it for many.
      const room = stderr.isTTY === true && (stderr.columns === undefined || stderr.columns > 0);
      const drawn = room && env['TERM'] !== 'dumb' && !env['CI'];
      return drawn && forPeople() ? drawnProgress() : spokenProgress();
    },
    style: (style, text) => paint(stdout, style, text),
    async flush() {
      while (pending.size > 0) await Promise.all(pending);
      if (failure !== undefined) throw failure;
    },
  };

  function showsColours(stream: Sink): boolean {
    const wanted = env['FORCE_COLOR'];
    const coloured =
      wanted !== undefined && wanted !== ''
        ? wanted !== '0' && wanted !== 'false'
        : !env['NO_COLOR'] && stream.isTTY === true && env['TERM'] !== 'dumb';
    return coloured && forPeople();
  }

  function paint(stream: Sink, style: Style, text: string): string {
    return showsColours(stream) ? styleText(style, text, { validateStream: false }) : text;
  }

  function spokenProgress(): Progress {
    let latest: string | undefined;
    const timer = setInterval(() => {
      if (latest !== undefined) say('info', latest);
      latest = undefined;
    }, progressEveryMs);
    timer.unref();
    return {
      update: (text) => {
        latest = text;
      },
      stop: () => clearInterval(timer),
    };
  }

  function drawnProgress(): Progress {
    let stopped = false;
    let latest = '';
    let stop: (() => void) | undefined;
    async function start(): Promise<void> {
      const { default: ora } = await import('ora');
      if (stopped) return;
      // With stdin discarded, the terminal would be in raw mode and Ctrl-C no signal.
      const drawing = ora({ stream: stderr, text: latest, discardStdin: false, isEnabled: true }).start();
      spinner = drawing;
      stop = () => {
        drawing.stop();
        spinner = undefined;
      };
      show = (text) => {
        drawing.text = text;
      };
    }
    let show = (text: string): void => {
      latest = text;
    };
    start().catch((error: unknown) => say('warn', `No progress can be shown: ${String(error)}`));
    return {
      update: (text) => show(visible(text)),
      stop: () => {
        stopped = true;
        stop?.();
        stop = undefined;
      },
    };
  }
}

/**
 * Whether a stream is the one that systemd connected to its journal. The variable alone says nothing: a child of a
 * service inherits it, wherever its output goes.
 */
function isJournal({ fd, isTTY }: Sink, env: Environment): boolean {
  const stream = env['JOURNAL_STREAM'];
  if (stream === undefined || stream === '' || fd === undefined || isTTY === true) return false;
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return stream === `${dev}:${ino}`;
  } catch {
    // Closed: there is no journal at its end.
    return false;
  }
}
