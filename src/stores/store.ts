import { createHash } from 'node:crypto';
import { NexusError } from '../errors.ts';

/** A row: its key, and flat fields. `undefined` is never stored; an absent field is absent. */
export interface Row {
  partition: string;
  id: string;
  [field: string]: string | number | boolean;
}

/** Ids from `from` (inclusive) to `before` (exclusive), in ascending order of their characters. */
export interface Range {
  from?: string;
  before?: string;
}

export interface BlobStat {
  name: string;
  /** Bytes committed: what `open` reads, whatever else lies in the file. */
  length: number;
}

/**
 * Bytes by name and rows by key, durable before a promise resolves.
 *
 * Durable means on stable storage: file and directory synced, rows committed with a sync. Every operation is
 * all or nothing at any `kill -9` or power cut, and may be called by several processes at once. Names and keys
 * follow `checkName` and `checkKey`; anything else is refused with `invalid` before it is touched.
 *
 * Failures are NexusErrors: `unavailable` (cannot answer, full, denied; try again), `corrupt` (what is there is
 * not what was committed). Absence is only ever reported from a definite answer, never from a failure.
 */
export interface Store {
  /**
   * Random, made on first use, the same for every process until the data is deleted or replaced: a store that
   * was copied or restored from a backup answers with another id where that can be told.
   */
  id(): Promise<string>;

  /** Stores a blob that does not exist. Of many racers exactly one wins; the others get `conflict`. */
  create(name: string, body: Uint8Array): Promise<void>;

  /**
   * Adds bytes at the end of a blob, only if it is exactly `offset` long (absent counts as 0), and answers the
   * new length. Otherwise `conflict` whose `length` is the true one, so that a repeat of an append that had
   * arrived is recognised. An append of no bytes stores nothing and only checks the offset. A torn append is
   * invisible to readers and healed by the next one.
   */
  append(name: string, offset: number, body: Uint8Array): Promise<number>;

  /** The committed bytes from `from` up to, not including, `to`. `not_found` when absent. */
  open(name: string, from?: number, to?: number): AsyncIterable<Uint8Array>;

  /** `undefined` when absent. */
  stat(name: string): Promise<BlobStat | undefined>;

  /** Blobs whose name begins with `prefix`, in ascending order. */
  list(prefix: string): AsyncIterable<BlobStat>;

  /** Removes a blob; absent is fine. */
  remove(name: string): Promise<void>;

  /** Adds a row that does not exist, else `conflict`. Of many racers exactly one wins. */
  insert(table: string, row: Row): Promise<void>;

  /** Adds or replaces a row whole. */
  put(table: string, row: Row): Promise<void>;

  /** One partition's rows, all pages of them. An absent table or partition has none. */
  rows(table: string, partition: string, range?: Range): AsyncIterable<Row>;

  /** Removes rows of one partition; absent ids are fine. */
  removeRows(table: string, partition: string, ids: readonly string[]): Promise<void>;

  close(): Promise<void>;
}

/** The row with this id, or `undefined`. */
export async function rowOf(
  store: Store,
  table: string,
  partition: string,
  id: string,
): Promise<Row | undefined> {
  // "~" is the greatest character of a key and so id + "\u0000" is the least id after this one.
  for await (const row of store.rows(table, partition, { from: id, before: `${id}\u0000` })) return row;
  return undefined;
}

// Letters, digits and . _ - ~ : legal and distinct in a file name, a URL path segment and an Azure key.
const segment = /^(?!\.)[A-Za-z0-9._~-]{1,200}(?<!\.)$/;

/**
 * Blob names: two to eight segments joined by "/", the first of them the container (3 to 63 of a-z, 0-9 and -).
 * No segment begins or ends with a dot, so none can leave its directory.
 */
export function checkName(name: string): void {
  const segments = name.split('/');
  if (segments.length < 2 || segments.length > 8 || !segments.every((part) => segment.test(part)))
    throw new NexusError('invalid', `${JSON.stringify(name)} is not a name a store can hold.`);
  if (!/^[a-z0-9](-?[a-z0-9]){2,62}$/.test(segments[0] ?? ''))
    throw new NexusError('invalid', `${JSON.stringify(segments[0])} is not a container's name.`);
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

const longestKey = 160;

/**
 * What others name (models, delivery ids, topics), as a key: letters, digits, `.`, `_` and `-` stay, every other
 * UTF-8 byte is `~x` and two hex digits, an unpaired surrogate is `~u` and four. Longer than 160 characters, the
 * tail is replaced by `~h` and 32 hex digits of its SHA-256. No two texts have the same key, and no key ends in
 * `~` and a number, which is how histories of one session are told apart.
 */
export function keyOf(text: string): string {
  if (text === '') return '~e';
  let key = '';
  for (const character of text) key += escapeCharacter(character);
  if (key.startsWith('.')) key = `~x2e${key.slice(1)}`;
  if (key.endsWith('.')) key = `${key.slice(0, -1)}~x2e`;
  if (key.length <= longestKey) return key;
  // The whole escaped text is hashed: it is plain ASCII and differs whenever the text does.
  const digest = createHash('sha256').update(key).digest('hex').slice(0, 32);
  return `${key.slice(0, longestKey - 40).replace(/~[xu]?[0-9a-f]{0,3}$/, '')}~h${digest}`;
}

function escapeCharacter(character: string): string {
  if (/^[A-Za-z0-9._-]$/.test(character)) return character;
  const code = character.charCodeAt(0);
  if (character.length === 1 && code >= 0xd800 && code <= 0xdfff) return `~u${code.toString(16)}`;
  return [...Buffer.from(character, 'utf8')]
    .map((byte) => `~x${byte.toString(16).padStart(2, '0')}`)
    .join('');
}
