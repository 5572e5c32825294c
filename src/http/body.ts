import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { constants, gunzip, zstdDecompress } from 'node:zlib';
import { NexusError } from '../errors.ts';
import { fieldsIn, type Place } from '../exactjson.ts';
import { isJson, isLongJson } from '../jsontext.ts';
import { readDigestField } from './wire.ts';

/** More are no body that is wanted here. */
const mostFields = 1000;

const unzip = promisify(gunzip);
const unzstd = promisify(zstdDecompress);

/** Refuses a body whose type is not this one; parameters such as a charset are let pass. */
export function requireType(contentType: string | undefined, wanted: string): void {
  const type = (contentType ?? '').split(';', 1)[0]?.trim().toLowerCase();
  if (type !== wanted)
    throw new NexusError('unsupported', `The body must be ${wanted}: send it with that Content-Type.`);
}

/** Refuses by what Content-Length already tells, before a byte of the body is read. */
export function refuseLength(contentLength: string | undefined, limit: number, sentence: string): void {
  if (contentLength !== undefined && Number(contentLength) > limit)
    throw new NexusError('too_large', sentence);
}

/** A request's body, not read until somebody wants it. */
export interface Body {
  /** Bytes that were read so far. */
  readonly bytes: number;
  /**
   * All of it, and no further than `limit` bytes: then `too_large` with that sentence. `took` is told of the bytes of
   * each piece, and ends it by throwing.
   */
  read(limit: number, sentence: string, took?: (bytes: number) => void): Promise<Buffer>;
}

/** `begin` is called before the first byte is read: the moment to answer `Expect: 100-continue`. */
export function bodyOf(stream: Readable, begin: () => void): Body {
  let length = 0;
  return {
    get bytes() {
      return length;
    },
    async read(limit, sentence, took = () => undefined) {
      const pieces: Buffer[] = [];
      begin();
      try {
        // Not destroyed when refused half-way: that would close the connection before the answer is out.
        for await (const piece of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
          length += piece.length;
          if (length > limit) throw new NexusError('too_large', sentence);
          took(piece.length);
          pieces.push(piece);
        }
      } catch (error) {
        if (error instanceof NexusError) throw error;
        throw new NexusError('invalid', 'The connection ended before the body did.', { cause: error });
      }
      return Buffer.concat(pieces, length);
    },
  };
}

export const noBody: Body = { bytes: 0, read: () => Promise.resolve(Buffer.alloc(0)) };

/** Refuses bytes that are not what a `Content-Digest` says of them. */
export function checkDigest(bytes: Buffer, field: string | undefined): void {
  const stated = field === undefined ? undefined : readDigestField(field);
  if (stated !== undefined && stated !== createHash('sha256').update(bytes).digest('hex'))
    throw new NexusError('invalid', 'The body is not the one that Content-Digest describes: send it again.');
}

/** Undoes a Content-Encoding, and stops where the decoded bytes would exceed `limit`. */
export async function decode(
  bytes: Buffer,
  encoding: string | undefined,
  limit: number,
  sentence: string,
): Promise<Buffer> {
  const name = (encoding ?? 'identity').trim().toLowerCase();
  if (name === 'identity' || name === '') return bytes;
  if (name !== 'zstd' && name !== 'gzip')
    throw new NexusError('unsupported', 'Content-Encoding must be zstd, gzip or identity.');
  try {
    return name === 'gzip'
      ? await unzip(bytes, { maxOutputLength: limit })
      : // A window as long as the longest chunk is enough; more would be memory for whoever asks.
        await unzstd(bytes, { maxOutputLength: limit, params: { [constants.ZSTD_d_windowLogMax]: 24 } });
  } catch (error) {
    if (error instanceof RangeError && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE')
      throw new NexusError('too_large', sentence, { cause: error });
    throw new NexusError('invalid', `The body is not whole ${name} data: send it again.`, { cause: error });
  }
}

/**
 * The text of a JSON body, parsed; anything but UTF-8 and JSON is `invalid`. Of a long one only those fields of its
 * object that are text: those are all that is wanted of one, and whatever else is in it would take many times its bytes.
 */
export function parseBody(bytes: Buffer): unknown {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new NexusError('invalid', 'Invalid JSON: the body is not UTF-8.', { cause: error });
  }
  try {
    return isLongJson(text) ? textsIn(text) : (JSON.parse(text) as unknown);
  } catch (error) {
    throw new NexusError('invalid', 'Invalid JSON: the body does not parse.', { cause: error });
  }
}

function textsIn(text: string): Record<string, unknown> {
  if (!isJson(text)) throw new SyntaxError('This is not JSON.');
  if (text.trimStart()[0] !== '{') return {};
  // Of a name that comes twice the last counts.
  const last = new Map<string, Place>();
  for (const { name, ...place } of fieldsIn(text, 0))
    if (last.size < mostFields || last.has(name)) last.set(name, place);
  return Object.fromEntries(
    [...last].flatMap(([name, { start, end }]): [string, unknown][] =>
      text[start] === '"' ? [[name, JSON.parse(text.slice(start, end))]] : [],
    ),
  );
}
