import { crc32 } from 'node:zlib';
import { NexusError } from '../errors.ts';

/*
 * CRC-32, which misses no change of fewer than four bits and costs a tenth of what a digest costs: what it is there for
 * is rot, and who can write to the file could write a digest too. A row of an older release has none, `null`: in a
 * database that was made by one it is believed as it was, until it is written again or `damage` has come by. In any
 * other a row without a sum has lost it.
 */

/** Of a row, its key included: one that is found under another key is not what was stored. */
export function rowSum(table: string, partition: string, id: string, json: string): number {
  return crc32(json, crc32(`${table}/${partition}/${id}\n`));
}

/** What is known of a blob: its committed length, and the CRC of its bytes, `null` where an older release wrote some. */
export interface Entry {
  length: number;
  crc: number | null;
}

export function entrySum(name: string, { length, crc }: Entry): number {
  return crc32(`${name}\n${length}\n${crc}`);
}

/** The sum of a blob's first bytes and of those that come after them. */
export function continued(crc: number | null, bytes: Uint8Array): number | null {
  return crc === null ? null : crc32(bytes, crc);
}

/** Reads a row of `blobs`, whose numbers are bigints: rot may have made them too large for others. */
export function entryOf(name: string, row: Record<string, unknown>, summed: boolean): Entry {
  const entry = { length: Number(row['length']), crc: row['crc'] === null ? null : Number(row['crc']) };
  if (row['sum'] === null && !summed) return { ...entry, crc: null };
  if (Number(row['sum']) !== entrySum(name, entry) || !Number.isSafeInteger(entry.length) || entry.length < 0)
    throw new NexusError('corrupt', `The stored length of ${name} is not the one that was stored.`, {
      hint: 'Restore store.sqlite from a backup.',
    });
  return entry;
}
