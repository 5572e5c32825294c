import { isLongJson } from './jsontext.ts';

/**
 * What put.io says of a transfer, as an agent reads it: its names in camel case, numbers, booleans and times (ISO
 * 8601, UTC, whole seconds) as such. Every field may be absent. `callback_url` is left out: it holds our secret.
 */
export interface Transfer {
  id?: number;
  name?: string;
  fileId?: number;
  status?: string;
  size?: number;
  finishedAt?: string;
  [field: string]: string | number | boolean | undefined;
}

/** Fields of put.io's own client that are no text; every other one is. */
const numbers = new Set([
  'id',
  'file_id',
  'size',
  'percent_done',
  'completion_percent',
  'save_parent_id',
  'download_id',
  'subscription_id',
  'estimated_time',
  'downloaded',
  'uploaded',
  'down_speed',
  'up_speed',
  'availability',
  'current_ratio',
  'seconds_seeding',
  'recorded_seconds',
  'peers_connected',
  'peers_getting_from_us',
  'peers_sending_to_us',
]);
const booleans = new Set(['is_private', 'created_torrent', 'simulated', 'userfile_exists', 'extract']);
const times = new Set(['created_at', 'started_at', 'finished_at']);
/** No two of them are the same in camel case, but for digits. */
const snakeCase = /^[a-z][a-z0-9]*(_[a-z0-9]+)*$/;

/** Whether a source of this name is put.io: `putio`, `put.io`, also as `putio-films`. */
export function isPutio(source: string): boolean {
  return /^put\.?io($|[-_.: ])/i.test(source);
}

/**
 * A transfer from its fields, as the API has them or flattened to text as a callback has them. What is not what its
 * field should be is left out, and so is what comes twice.
 */
export function transferOf(fields: object): Transfer {
  const read = Object.entries(fields).flatMap(([name, value]): [string, string | number | boolean][] => {
    if (name === 'callback_url' || name.length > 64 || !snakeCase.test(name)) return [];
    const known = valueOf(name, value);
    return known === undefined ? [] : [[camelCase(name), known]];
  });
  return Object.fromEntries(read);
}

/** The transfer that a payload tells of; `undefined` when it tells of none. */
export function transferIn(payloadText: string): Transfer | undefined {
  // A longer one tells of none, and would take many times its bytes.
  if (!payloadText.startsWith('{') || isLongJson(payloadText)) return undefined;
  const fields: unknown = JSON.parse(payloadText);
  if (typeof fields !== 'object' || fields === null) return undefined;
  const transfer = transferOf(fields);
  return transfer.id === undefined && transfer.name === undefined ? undefined : transfer;
}

function valueOf(name: string, value: unknown): string | number | boolean | undefined {
  if (numbers.has(name)) return numberOf(value);
  if (booleans.has(name)) return booleanOf(value);
  if (typeof value !== 'string' && typeof value !== 'number') return undefined;
  return times.has(name) ? timeOf(String(value)) : String(value);
}

function numberOf(value: unknown): number | undefined {
  const number = typeof value === 'string' && /^-?\d+(\.\d+)?$/.test(value) ? Number(value) : value;
  // One that JavaScript cannot hold to the last digit would name another transfer.
  return typeof number === 'number' && Math.abs(number) <= Number.MAX_SAFE_INTEGER ? number : undefined;
}

function booleanOf(value: unknown): boolean | undefined {
  if (typeof value === 'boolean') return value;
  if (typeof value !== 'string' || !/^(true|false)$/i.test(value)) return undefined;
  return value.toLowerCase() === 'true';
}

/** put.io writes UTC, mostly without saying so; seconds since 1970 are a time too. */
function timeOf(value: string): string | undefined {
  const [, date = '', time, zone = 'Z'] =
    /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.\d+)?\s*(Z|[+-]\d\d:?\d\d)?$/i.exec(value) ?? [];
  const ms = /^\d{9,10}(\.\d+)?$/.test(value)
    ? Math.floor(Number(value)) * 1000
    : isDay(date)
      ? Date.parse(`${date}T${time}${zone.replace(/^([+-]\d\d)(\d\d)$/, '$1:$2').toUpperCase()}`)
      : Number.NaN;
  return Number.isNaN(ms) ? undefined : new Date(ms).toISOString().replace('.000Z', 'Z');
}

/** `Date` takes 30 February for 2 March. */
function isDay(date: string): boolean {
  const ms = Date.parse(`${date}T00:00:00Z`);
  return !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(date);
}

function camelCase(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/** A form as put.io's callback has it, of a transfer as the API has it: flat, text, `True`, nothing for null. */
export function formOf(fields: object): string {
  const form = new URLSearchParams();
  for (const [name, value] of Object.entries(fields)) {
    if (name === 'callback_url') continue;
    if (typeof value === 'boolean') form.set(name, value ? 'True' : 'False');
    else if (typeof value === 'number' || typeof value === 'string') form.set(name, String(value));
  }
  return form.toString();
}

/** How a transfer is that has come to its end well. */
const finished = new Set<string | undefined>(['COMPLETED', 'SEEDING', 'PREPARING_SEED']);

/** How it has come to its end; `undefined` where it has not, or does not say. */
export function endOf({ status }: Transfer): 'well' | 'failed' | undefined {
  return finished.has(status) ? 'well' : status === 'ERROR' ? 'failed' : undefined;
}

/** The ids of the delivery that tells of a transfer, as the mailbox takes them. */
export interface TransferIds {
  delivery: string;
  /** Where put.io leaves the time out, or has left it out of an earlier call. */
  otherwise?: { delivery: string; since: string };
}

/** put.io's clock and ours differ by no more. */
export const overlapMs = 3_600_000;

/**
 * The transfer and when it finished, since one that failed and was tried again finishes twice. Without a time it is the
 * transfer alone where it ended well, which it does once; else `undefined`, as two that fail cannot be told apart.
 */
export function idsOf({ id, status, finishedAt }: Transfer): TransferIds | undefined {
  if (id === undefined) return undefined;
  const alone = status === undefined || finished.has(status) ? String(id) : undefined;
  if (finishedAt === undefined) return alone === undefined ? undefined : { delivery: alone };
  const delivery = `${id} ${finishedAt}`;
  if (alone === undefined) return { delivery };
  const since = new Date(Date.parse(finishedAt) - overlapMs).toISOString();
  return { delivery, otherwise: { delivery: alone, since } };
}

/** The same of what a callback says, read as `payloadOf` reads it. */
export function idsIn(payloadText: string): TransferIds | undefined {
  const transfer = transferIn(payloadText);
  return transfer === undefined ? undefined : idsOf(transfer);
}
