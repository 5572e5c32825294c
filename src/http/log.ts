import * as z from 'zod';
import { parseJson } from './wire.ts';

/** Where log lines go, each with its newline. */
export interface Log {
  write(line: string): void;
}

const lineSchema = z.object({
  level: z.number(),
  time: z.string(),
  msg: z.string().optional(),
  method: z.string().optional(),
  url: z.string().optional(),
  status: z.number().optional(),
  ms: z.number().optional(),
  key: z.string().optional(),
  source: z.string().optional(),
  item: z.string().optional(),
  why: z.string().optional(),
  err: z.object({ stack: z.string().optional(), message: z.string().optional() }).optional(),
});

/** Turns pino's JSON lines into short ones for a person at a terminal. */
export function shortLines(log: Log): Log {
  return {
    write(line) {
      const read = lineSchema.safeParse(parseJson(line));
      log.write(read.success ? `${short(read.data)}\n` : line);
    },
  };
}

function short(line: z.infer<typeof lineSchema>): string {
  const { level, time, msg, method, url, status, ms, key, source, item, why, err } = line;
  const parts = [time.slice(11, 23)];
  if (level >= 50) parts.push('ERROR');
  else if (level >= 40) parts.push('WARN');
  if (method === undefined) parts.push(msg ?? '');
  else {
    parts.push(method, url ?? '', status === undefined ? 'gone' : String(status));
    if (ms !== undefined) parts.push(`${Math.round(ms)} ms`);
    if (key !== undefined) parts.push(`(${key})`);
    if (source !== undefined) parts.push(item === undefined ? source : `${source} → ${item}`);
    if (why !== undefined) parts.push(why);
  }
  if (err !== undefined) parts.push(err.stack ?? err.message ?? '');
  return parts.filter((part) => part !== '').join(' ');
}
