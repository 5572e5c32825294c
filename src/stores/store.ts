import { createHash } from 'node:crypto';
import { NexusError } from '../errors.ts';

/**
 * A row: its key, and flat fields. `undefined` is never stored; an absent field is absent. What a store takes is what
 * `checkRow` takes: names of fields that begin with a letter and go on in letters and digits (`a` is another than `A`),
 * finite numbers, and sizes that every store can hold.
 */
export interface Row {
  partition: string;
  id: string;
  [field: string]: string | number | boolean;
}

/** A row and the table it belongs in. */
export interface TableRow {
  table: string;
  row: Row;
}

/**
 * Ids from `from` (inclusive) to `before` (exclusive), in ascending order of their characters. With "\u0000" after
 * it, an id stands for the place right behind it.
 */
export interface Range {
  from?: string;
  before?: string;
}

export interface BlobStat {
  name: string;
  /** Bytes committed: what `open` reads, whatever else lies in the file. */
  length: number;
}

/** Told of one thing that is there and is not what was stored: which, and what was found. */
export type Rotted = (name: string, error: NexusError) => void;

/** Something that is stored and is damaged. */
export interface Damage {
  /** The blob, `table partition/id`, or the file. */
  item: string;
  /** A sentence. */
  reason: string;
  /** The row's place, where it is one. */
  row?: { table: string; partition: string; id: string };
}

/**
 * Bytes by name and rows by key, durable before a promise resolves.
 *
 * Durable means on stable storage: file and directory synced, rows committed with a sync; on Azure, acknowledged by
 * the service. Every operation is all or nothing at any `kill -9`, power cut or network fault, and may be called by
 * several processes at once. Names and keys follow `checkName` and `checkKey`; anything else is refused with
 * `invalid` before it is touched.
 *
 * Names whose second segment is `inbox` grow by `append`; all others are made by `create`, once and whole. The other
 * way round is `invalid`.
 *
 * Failures are NexusErrors: `unavailable` (cannot answer, full, denied; try again), `forbidden` (the credentials do
 * not allow it), `corrupt` (what is there is not what was committed; the local store keeps sums of rows, of lengths and
 * of a blob's bytes, Azure its own). Absence is only ever reported from a definite
 * answer, never from a failure. A write that failed with `unavailable` may have been done or not, and may be tried
 * again: of a repeat that comes as `conflict`, `length` or the row there says whether it was.
 */
export interface Store {
  /**
   * Random, made on first use, the same for every process until the data is deleted or replaced: a store that
   * was copied or restored from a backup answers with another id where that can be told. Cheap: called for each
   * request.
   */
  id(): Promise<string>;

  /**
   * Stores a blob that does not exist. Of many racers exactly one wins; the others get `conflict`. `too_large` above
   * `maxBodyBytes`.
   */
  create(name: string, body: Uint8Array): Promise<void>;

  /**
   * Adds bytes at the end of a blob, only if it is exactly `offset` long (absent counts as 0), and answers the
   * new length. Otherwise `conflict` whose `length` is the true one, so that a repeat of an append that had
   * arrived is recognised. An append of no bytes stores nothing and only checks the offset. A torn append is
   * invisible to readers and healed by the next one. `too_large` above `maxBodyBytes`. `full`, with the true length,
   * when this blob takes no further append (after 50,000 of them, on Azure): go on under another name.
   */
  append(name: string, offset: number, body: Uint8Array): Promise<number>;

  /**
   * The committed bytes from `from` up to, not including, `to`, as the blob was when it was opened: what is appended
   * meanwhile is not read. Each piece is its reader's own. `not_found` when absent, `range` with the true length when
   * `from` is beyond the end, `unavailable` when the blob is removed or replaced meanwhile. Of a blob that is read whole,
   * what is not what was stored is `corrupt` before its last piece is given, where the store has a sum of it.
   */
  open(name: string, from?: number, to?: number): AsyncIterable<Uint8Array>;

  /** `undefined` when absent. */
  stat(name: string): Promise<BlobStat | undefined>;

  /**
   * Blobs whose name begins with `prefix`, which names a container and its "/", in ascending order. One whose length is
   * not what was stored is left out and told to `rotted`; without it, it is thrown.
   */
  list(prefix: string, rotted?: Rotted): AsyncIterable<BlobStat>;

  /** Removes a blob; absent is fine. */
  remove(name: string): Promise<void>;

  /** Adds a row that does not exist, else `conflict`. Of many racers exactly one wins. */
  insert(table: string, row: Row): Promise<void>;

  /**
   * Adds rows that do not exist, in this order, as far as the first that exists: answers how many were added. None of
   * them is ever there without those before it. Where it can be had, one sync for all.
   */
  insertAll(rows: readonly TableRow[]): Promise<number>;

  /** Adds or replaces a row whole. */
  put(table: string, row: Row): Promise<void>;

  /**
   * One partition's rows, all pages of them. An absent table or partition has none. One that is not what was stored is
   * left out and its id told to `rotted`, before the next one is given; without it, it is thrown.
   */
  rows(table: string, partition: string, range?: Range, rotted?: Rotted): AsyncIterable<Row>;

  /** Removes rows of one partition; absent ids are fine. Of what fails some may remain, and a repeat removes it. */
  removeRows(table: string, partition: string, ids: readonly string[]): Promise<void>;

  /**
   * Reads all that it has sums of, in turns that leave others theirs, and names what is damaged. Names nothing where the
   * service keeps the sums and does not give out what does not fit them. Throws the signal's reason when that ends it.
   */
  damage(signal?: AbortSignal): AsyncIterable<Damage>;

  close(): Promise<void>;
}

/** The row with this id, or `undefined`. One that is not what was stored is told to `rotted`, or else thrown. */
export async function rowOf(
  store: Store,
  table: string,
  partition: string,
  id: string,
  rotted?: Rotted,
): Promise<Row | undefined> {
  // "~" is the greatest character of a key and so id + "\u0000" is the least id after this one.
  const range = { from: id, before: `${id}\u0000` };
  for await (const row of store.rows(table, partition, range, rotted)) return row;
  return undefined;
}

/** Removes rows, some of which may have rotted: an id that no store can hold is left where it is. */
export async function removeFound(
  store: Store,
  table: string,
  partition: string,
  ids: readonly string[],
): Promise<void> {
  const removable = ids.filter((id) => segment.test(id));
  if (removable.length > 0) await store.removeRows(table, partition, removable);
}

// Letters, digits and . _ - ~ : legal and distinct in a file name, a URL path segment and an Azure key.
const segment = /^(?!\.)[A-Za-z0-9._~-]{1,200}(?<!\.)$/;

/** The most bytes of one `create` or `append`: 64 × 1024². */
export const maxBodyBytes = 64 * 1024 * 1024;

/** The most UTF-16 units of a row's text, and bytes of a row (2 for a unit of text or of a name, 8 for a number). */
export const maxTextUnits = 32_000;
export const maxRowBytes = 900_000;
const maxFields = 200;

/**
 * Blob names: two to eight segments joined by "/", at most 1000 characters, the first segment the container (3 to 40
 * of a-z, 0-9 and -). No segment begins or ends with a dot, so none can leave its directory.
 */
export function checkName(name: string): void {
  const segments = name.split('/');
  const fits = segments.length >= 2 && segments.length <= 8 && name.length <= 1000;
  if (!fits || !segments.every((part) => segment.test(part)))
    throw new NexusError('invalid', `${JSON.stringify(name)} is not a name a store can hold.`);
  checkContainer(segments[0] ?? '');
}

function checkContainer(container: string): void {
  if (container.length > 40 || !/^[a-z0-9](-?[a-z0-9]){2,}$/.test(container))
    throw new NexusError('invalid', `${JSON.stringify(container)} is not a container's name.`);
}

/** Refuses a prefix that does not begin with a whole container's name. */
export function checkPrefix(prefix: string): void {
  if (!prefix.includes('/'))
    throw new NexusError('invalid', `${JSON.stringify(prefix)} does not begin with a container and "/".`);
  checkContainer(prefix.slice(0, prefix.indexOf('/')));
}

/** True for the blobs that `append` makes; the others are made by `create`. */
export function grows(name: string): boolean {
  return name.split('/')[1] === 'inbox';
}

/** What `create` and `append` refuse before they look at what is stored. */
export function checkBody(name: string, body: Uint8Array, how: 'create' | 'append'): void {
  checkName(name);
  if (grows(name) !== (how === 'append'))
    throw new NexusError(
      'invalid',
      `${name} cannot be stored by ${how}: what is in inbox/ grows, and only that.`,
    );
  if (body.length > maxBodyBytes)
    throw new NexusError(
      'too_large',
      `${body.length} bytes at once are more than the ${maxBodyBytes} for ${name}.`,
    );
}

/** Partitions and row ids: one segment. Tables: letters and digits. */
export function checkKey(key: string): void {
  if (!segment.test(key))
    throw new NexusError('invalid', `${JSON.stringify(key)} is not a key a store can hold.`);
}

export function checkTable(table: string): void {
  if (!/^[A-Za-z][A-Za-z0-9]{2,40}$/.test(table))
    throw new NexusError('invalid', `${JSON.stringify(table)} is not a table's name.`);
}

const fieldName = /^[A-Za-z][A-Za-z0-9]{0,63}$/;

/** Refuses a row that not every store could hold: `invalid`, or `too_large` for its size. */
export function checkRow(table: string, row: Row): void {
  checkTable(table);
  checkKey(row.partition);
  checkKey(row.id);
  const fields = fieldsOf(row);
  let bytes = 4 + 2 * (row.partition.length + row.id.length);
  const refuse = (code: 'invalid' | 'too_large', field: string, why: string): NexusError =>
    new NexusError(code, `The field ${JSON.stringify(field)} of ${row.partition}/${row.id} ${why}.`);
  for (const [field, value] of fields) {
    if (!fieldName.test(field)) throw refuse('invalid', field, 'is not called as a field can be');
    if (typeof value !== 'string' && typeof value !== 'boolean' && !Number.isFinite(value))
      throw refuse('invalid', field, 'is neither text, a finite number nor a boolean');
    if (typeof value === 'string' && value.length > maxTextUnits)
      throw refuse('too_large', field, `has ${value.length} characters; a field holds ${maxTextUnits}`);
    bytes += 8 + 2 * field.length + (typeof value === 'string' ? 4 + 2 * value.length : 8);
  }
  if (bytes > maxRowBytes || fields.length > maxFields)
    throw new NexusError(
      'too_large',
      `The row ${row.partition}/${row.id} of ${table} has ${bytes} bytes in ${fields.length} fields; a row holds ${maxRowBytes} in ${maxFields}.`,
    );
}

/** The fields that a row states, without its key. */
export function fieldsOf(row: Row): [field: string, value: string | number | boolean][] {
  return Object.entries(row).filter(
    ([field, value]) => field !== 'partition' && field !== 'id' && value !== undefined,
  );
}

const longestKey = 160;

/** A text that is its own key: most are. */
const plainKey = /^[A-Za-z0-9_-](?:[A-Za-z0-9._-]{0,158}[A-Za-z0-9_-])?$/;

/**
 * What others name (models, delivery ids, topics), as a key: letters, digits, `.`, `_` and `-` stay, every other
 * UTF-8 byte is `~x` and two hex digits, an unpaired surrogate is `~u` and four. Longer than 160 characters, the
 * tail is replaced by `~h` and 32 hex digits of its SHA-256. No two texts have the same key, and no key ends in
 * `~` and a number, which is how histories of one session are told apart.
 */
export function keyOf(text: string): string {
  if (plainKey.test(text)) return text;
  if (text === '') return '~e';
  let key = text.replace(/[^A-Za-z0-9._-]/gu, escapeCharacter);
  if (key.startsWith('.')) key = `~x2e${key.slice(1)}`;
  if (key.endsWith('.')) key = `${key.slice(0, -1)}~x2e`;
  if (key.length <= longestKey) return key;
  // The whole escaped text is hashed: it is plain ASCII and differs whenever the text does.
  const digest = createHash('sha256').update(key).digest('hex').slice(0, 32);
  return `${key.slice(0, longestKey - 40).replace(/~[xu]?[0-9a-f]{0,3}$/, '')}~h${digest}`;
}

function escapeCharacter(character: string): string {
  const code = character.charCodeAt(0);
  if (character.length === 1 && code >= 0xd800 && code <= 0xdfff) return `~u${code.toString(16)}`;
  return [...Buffer.from(character, 'utf8')]
    .map((byte) => `~x${byte.toString(16).padStart(2, '0')}`)
    .join('');
}
