import type { Context } from '../context.ts';
import { describe, exit, NexusError } from '../errors.ts';
import { formatBytes, formatCount, formatItems, visibleLines } from '../format.ts';
import { openEndpointUsage, openOwnUsage } from '../open.ts';
import type { Progress } from '../output.ts';
import { widthOf } from '../table.ts';
import type { Standing, Usage, UsageAnswer } from '../usage.ts';
import type { CatchUpOptions, CatchUpProgress } from '../usagecatchup.ts';
import { csvOf } from '../usagecsv.ts';
import { daysIn } from '../usagedays.ts';
import { type Dimension, parsed, usageRequestSchema } from '../usagerequest.ts';
import {
  coverageLines,
  isWhole,
  lostPricesText,
  oddityText,
  uncountedText,
  unreadText,
  usageLines,
} from './usagetable.ts';

/** What the command line asks of usage. */
export interface Asked {
  by: string[] | undefined;
  filters: Record<string, string[] | undefined>;
  from: string | undefined;
  to: string | undefined;
  last: string | undefined;
  tz: string | undefined;
  csv: boolean;
  live: boolean;
}

/** What can be asked, wherever the index is; `catchUp` only where that is here. */
export type Reader = Pick<Usage, 'query' | 'sessions' | 'top' | 'costOf'> & Partial<Pick<Usage, 'catchUp'>>;

export type Request = ReturnType<typeof requestOf>;

/** Between two pictures of `--live`, ms. */
const refreshMs = 3000;

/** Sums by dimensions; 3 where not all that is stored is in them. */
export async function usage(context: Context, asked: Asked): Promise<number> {
  const { output } = context;
  if (asked.csv && output.json)
    throw new NexusError('usage', 'A result is either CSV or JSON: leave --csv or --json out.');
  if (asked.live && (asked.csv || (!output.json && !output.terminal)))
    throw new NexusError('usage', '--live needs a terminal, or --json.');
  const request = requestOf(asked);
  return await withReader(context, async (reader) => {
    if (asked.live) return await live(context, reader, request);
    await catchUp(context, reader);
    const answer = await reader.query(request);
    if (output.json) output.result(objectOf(answer));
    else if (asked.csv) {
      const csv = csvOf(request.by, answer);
      // A file gets it as it is; at a terminal names that come from transcripts must not control it.
      if (output.terminal) output.result(csv.replaceAll('\r\n', '\n').trimEnd());
      else await output.write(Buffer.from(csv));
      warnOf(context, answer);
    } else for (const line of pictureOf(context, request, answer)) output.result(line);
    return statusOf(answer);
  });
}

/** Forgets the index and reads everything again. Where an endpoint keeps it, it is rebuilt there. */
export async function rebuild(context: Context): Promise<number> {
  const { config, output } = context;
  if (config.endpoint !== undefined)
    throw new NexusError('usage', `The index is kept by ${config.endpoint}.`, {
      hint: 'Run `nexus usage rebuild` on its machine.',
    });
  const own = await openOwnUsage(config, context.now);
  try {
    const standing = await shown(context, (options) => own.rebuild(options));
    if (output.json)
      output.result({ command: 'usage rebuild', ok: isWhole(standing), ...standing, schemaVersion: 1 });
    else for (const line of coverageLines(undefined, standing, context.now())) output.info(line);
    return statusOf(standing);
  } finally {
    await own.close();
  }
}

/** `invalid`, in a sentence, for what cannot be asked. */
export function requestOf({ by, filters, from, to, last, tz }: Asked) {
  const request = parsed(usageRequestSchema, {
    by: by ?? ['day'],
    ...filters,
    from,
    to,
    last,
    tz: tz ?? Intl.DateTimeFormat().resolvedOptions().timeZone,
  });
  if (from === undefined && to === undefined && last === undefined) request.last = usualPeriod(request.by);
  if (request.tz !== undefined) daysIn(request.tz);
  return { ...request, tz: request.tz ?? 'UTC' };
}

/** Of months and weeks, more than one. */
function usualPeriod(by: readonly Dimension[]): string {
  if (by.includes('day')) return '30d';
  return by.includes('month') ? '365d' : by.includes('week') ? '12w' : '30d';
}

export async function withReader<T>(context: Context, work: (reader: Reader) => Promise<T>): Promise<T> {
  const { config, signal, version } = context;
  const reader =
    config.endpoint === undefined
      ? await openOwnUsage(config, context.now)
      : await openEndpointUsage(config, config.endpoint, signal, version);
  try {
    return await work(reader);
  } finally {
    await reader.close();
  }
}

/** Where the index is here, it takes up what was stored since. */
export async function catchUp(context: Context, { catchUp: work }: Reader): Promise<void> {
  if (work === undefined) return;
  await shown(context, work);
  context.signal.throwIfAborted();
}

/** With a line that says how far it is, where it takes longer than a moment. */
async function shown<T>(
  { output, signal }: Context,
  work: (options: CatchUpOptions) => Promise<T>,
): Promise<T> {
  let progress: Progress | undefined;
  const began = performance.now();
  const tell = ({ bytes, bytesTotal, transcripts, transcriptsTotal }: CatchUpProgress) => {
    if (performance.now() - began < 300) return;
    const percent = bytesTotal === 0 ? 100 : Math.min(100, Math.floor((bytes / bytesTotal) * 100));
    progress ??= output.progress();
    progress.update(
      `Reading what is stored: ${percent} %, ${formatBytes(bytes)} of ${formatBytes(bytesTotal)}, ${formatCount(transcripts)} of ${formatItems(transcriptsTotal, 'transcript')}`,
    );
  };
  try {
    return await work({ signal, progress: tell });
  } finally {
    progress?.stop();
  }
}

async function live(context: Context, reader: Reader, request: Request): Promise<number> {
  const { output, signal } = context;
  const { setTimeout: delay } = await import('node:timers/promises');
  let latest: UsageAnswer | undefined;
  let drawn = false;
  while (!signal.aborted && !output.gone) {
    let trouble: string | undefined;
    try {
      await reader.catchUp?.({ signal });
      signal.throwIfAborted();
      latest = await reader.query(request);
    } catch (error) {
      if (signal.aborted || latest === undefined) throw error;
      trouble = describe(error);
    }
    if (!output.json && !drawn) await output.write(Buffer.from('\u001b[2J'));
    drawn = true;
    if (!output.json) await draw(context, pictureOf(context, request, latest), trouble);
    else if (trouble === undefined) output.result(objectOf(latest));
    else output.warn(trouble);
    await delay(refreshMs, undefined, { signal }).catch(() => undefined);
  }
  return exit.done;
}

/** What it is, an empty line, and the heading of the table. */
const headLines = 3;

/** Over the picture before, line by line, so that it does not flicker; what is too high for the terminal is left out. */
async function draw(
  { output }: Context,
  picture: readonly string[],
  trouble: string | undefined,
): Promise<void> {
  const { width = 80, height = 24 } = output.size;
  const lines = trouble === undefined ? [...picture] : [...picture, `Not up to date: ${trouble}`];
  const rowsOf = (all: readonly string[]) =>
    all.reduce((sum, line) => sum + Math.max(1, Math.ceil(widthOf(line) / width)), 0);
  // The newest rows, the totals and what they rest on stay.
  while (rowsOf(lines) >= height && lines.length > headLines + 1) lines.splice(headLines, 1);
  const frame = lines.map((line) => `${visibleLines(line)}\u001b[K\n`).join('');
  await output.write(Buffer.from(`\u001b[H${frame}\u001b[J`));
}

/** The table, and below it what it rests on. */
function pictureOf({ output, now }: Context, request: Request, answer: UsageAnswer): string[] {
  const { width } = output.size;
  const lines = usageLines(request.by, answer.rows, answer.totals, width);
  const ruled = lines.flatMap(({ kind, text }) => {
    if (kind === 'heading') return [output.style('dim', text)];
    return kind === 'total' ? [output.style('bold', text)] : [text];
  });
  const rests = coverageLines(answer.totals, answer, now());
  return [
    output.style('bold', `Usage by ${request.by.join(', ')}, ${periodText(request)}`),
    '',
    ...(answer.totals.calls > 0 ? ruled : [nothingText(answer)]),
    '',
    ...rests.map((line) => output.style(isWhole(answer) ? 'dim' : 'yellow', line)),
  ];
}

function nothingText({ coverage }: Standing): string {
  return coverage.transcripts === 0
    ? 'Nothing is archived yet: run `nexus backfill`.'
    : 'No model was called then.';
}

export function periodText({ from, to, last, tz }: Request): string {
  if (last !== undefined) {
    const count = Number(last.slice(0, -1));
    return `last ${formatItems(count, last.endsWith('w') ? 'week' : 'day')}, ${tz}`;
  }
  const parts = [...(from === undefined ? [] : [`from ${from}`]), ...(to === undefined ? [] : [`to ${to}`])];
  return `${parts.join(' ')}, ${tz}`;
}

function objectOf(answer: UsageAnswer): object {
  return { command: 'usage', ok: isWhole(answer), ...answer, schemaVersion: 1 };
}

/** For whoever reads CSV: on stderr. */
function warnOf({ output }: Context, standing: Standing): void {
  if (!standing.complete) output.warn(`Of what is stored, ${unreadText(standing)}`);
  if (standing.uncounted > 0) output.warn(uncountedText(standing));
  if (standing.lostPrices !== undefined) output.warn(lostPricesText(standing.lostPrices));
  for (const oddity of standing.coverage.oddities) output.warn(oddityText(oddity));
}

/** 3: a part of what is stored is in no sum. */
export function statusOf(standing: Pick<Standing, 'complete' | 'uncounted' | 'lostPrices'>): number {
  return isWhole(standing) ? exit.done : exit.someFailed;
}
