import { type ErrorCode, NexusError, failedWith } from '../../src/errors.ts';
import type { Row } from '../../src/stores/store.ts';

export function bytes(content: string): Uint8Array {
  return Buffer.from(content);
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

export async function read(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  return Buffer.concat(await collect(pieces));
}

export async function text(pieces: AsyncIterable<Uint8Array>): Promise<string> {
  return (await read(pieces)).toString();
}

/** The NexusError that the promise is rejected with; anything else is thrown. */
export async function failure(promise: Promise<unknown>): Promise<NexusError> {
  const [result] = await Promise.allSettled([promise]);
  if (result?.status === 'rejected' && result.reason instanceof NexusError) return result.reason;
  throw new Error('expected a NexusError', { cause: result });
}

/** The code of the NexusError that the promise is rejected with. */
export async function codeOf(promise: Promise<unknown>): Promise<ErrorCode> {
  return (await failure(promise)).code;
}

export async function ids(rows: AsyncIterable<Row>): Promise<string[]> {
  return (await collect(rows)).map((row) => row.id);
}

/** The positions of those that resolved; every other must have been rejected with `conflict`. */
export async function winners(races: Promise<unknown>[]): Promise<number[]> {
  const results = await Promise.allSettled(races);
  for (const result of results)
    if (result.status === 'rejected' && !failedWith(result.reason, 'conflict')) throw result.reason;
  return results.flatMap((result, i) => (result.status === 'fulfilled' ? [i] : []));
}
