import { NexusError } from '../errors.ts';

/** Bytes from `from` up to, not including, `to`. */
export interface ByteRange {
  from: number;
  to: number;
}

/**
 * The one range that a Range field asks of `length` bytes. Several ranges, other units and what does not parse are
 * ignored (`undefined`), as RFC 9110 allows; a range that begins beyond the bytes is `range`.
 */
export function rangeOf(field: string | undefined, length: number): ByteRange | undefined {
  const [, first = '', last = ''] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(field?.trim() ?? '') ?? [];
  if (first === '' && last === '') return undefined;
  if (first !== '' && last !== '' && Number(last) < Number(first)) return undefined;
  const from = first === '' ? Math.max(0, length - Number(last)) : Number(first);
  const to = first === '' || last === '' ? length : Math.min(length, Number(last) + 1);
  if (from >= to) throw new NexusError('range', `There are ${length} bytes.`, { length });
  return { from, to };
}
