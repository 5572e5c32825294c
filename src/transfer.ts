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
    if (name === 'callback_url' || !/^[a-z][a-z0-9_]{0,63}$/.test(name)) return [];
    const known = valueOf(name, value);
    return known === undefined ? [] : [[camelCase(name), known]];
  });
  return Object.fromEntries(read);
}

/** The transfer that a payload tells of; `undefined` when it tells of none. */
export function transferIn(payloadText: string): Transfer | undefined {
  if (!payloadText.startsWith('{')) return undefined;
  const fields: unknown = JSON.parse(payloadText);
  if (typeof fields !== 'object' || fields === null) return undefined;
  const transfer = transferOf(fields);
  return transfer.id === undefined && transfer.name === undefined ? undefined : transfer;
}

function valueOf(name: string, value: unknown): string | number | boolean | undefined {
  if (numbers.has(name)) return numberOf(value);
  if (booleans.has(name)) return booleanOf(value);
  if (typeof value !== 'string') return typeof value === 'number' ? String(value) : undefined;
  return times.has(name) ? timeOf(value) : value;
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

/** put.io writes UTC, mostly without saying so. */
function timeOf(value: string): string | undefined {
  const [, date, time, zone = 'Z'] =
    /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.\d+)?\s*(Z|[+-]\d\d:?\d\d)?$/i.exec(value) ?? [];
  const ms = Date.parse(`${date}T${time}${zone.replace(/^([+-]\d\d)(\d\d)$/, '$1:$2').toUpperCase()}`);
  return Number.isNaN(ms) ? undefined : new Date(ms).toISOString().replace('.000Z', 'Z');
}

function camelCase(name: string): string {
  return name.replace(/_+([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
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
const finished = new Set<string | undefined>(['COMPLETED', 'SEEDING', 'PREPARING_SEED', undefined]);

/**
 * The id of the delivery that tells of it: the transfer and when it finished, since one that failed and was tried again
 * finishes twice. Without a time it is the transfer alone where it ended well, which it does once; else `undefined`,
 * as two that fail cannot be told apart.
 */
export function deliveryOf({ id, status, finishedAt }: Transfer): string | undefined {
  if (id === undefined) return undefined;
  if (finishedAt !== undefined) return `${id} ${finishedAt}`;
  return finished.has(status) ? String(id) : undefined;
}

/** The transfer as a callback tells of it that leaves out when it finished. */
export function withoutTime(transfer: Transfer): Transfer {
  return Object.fromEntries(Object.entries(transfer).filter(([name]) => name !== 'finishedAt'));
}

/** The id of the delivery that a callback's body is. */
export function deliveryIn(contentType: string, body: Buffer): string | undefined {
  const text = body.toString('utf8');
  if (contentType.split(';', 1)[0]?.trim().toLowerCase() !== 'application/x-www-form-urlencoded') {
    try {
      const transfer = transferIn(text.trim());
      return transfer === undefined ? undefined : deliveryOf(transfer);
    } catch (error) {
      if (error instanceof SyntaxError) return undefined; // no JSON, so no id in it
      throw error;
    }
  }
  const form = new URLSearchParams(text);
  const once = [...new Set(form.keys())].filter((name) => form.getAll(name).length === 1);
  return deliveryOf(transferOf(Object.fromEntries(once.map((name) => [name, form.get(name)]))));
}
