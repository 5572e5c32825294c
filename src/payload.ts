import { isUtf8 } from 'node:buffer';
import { promisify } from 'node:util';
import { gunzip, inflate, zstdDecompress } from 'node:zlib';
import { NexusError } from './errors.ts';
import { nestedDeeper } from './exactjson.ts';
import { isJson } from './jsontext.ts';

/** A body as an agent reads it. */
export interface Payload {
  /** JSON. Of a JSON body what was sent, letter by letter, but for the spaces around it. */
  payloadText: string;
  /** Where it is a string in base64. */
  encoding?: 'base64';
}

/** The most bytes of a body after its Content-Encoding is undone: 64 × 1024². */
export const maxDecodedBytes = 64 * 1024 * 1024;

/** What reads JSON for an agent ends in an error some hundreds or thousands of levels deep. */
const maxDepth = 500;

const mediaType = /^[\w!#$%&'*+.^`|~-]+\/[\w!#$%&'*+.^`|~-]+$/;
const jsonType = /^(application|text)\/json$|^[^/]+\/[^/]+\+json$/;
const textType =
  /^text\/|\+xml$|^application\/(xml|javascript|ecmascript|x-ndjson|ndjson|jsonl|graphql|yaml|x-yaml|toml)$/;

type Kind = 'json' | 'form' | 'multipart' | 'text' | 'binary';

/**
 * Refuses what no agent could make sense of: `unsupported` for a Content-Type that is none and a
 * Content-Encoding that is unknown; `invalid` for JSON and multipart forms that are malformed and bytes that are not
 * in their Content-Encoding; `too_large` for more than `limit` bytes after it is undone. No body is always fine.
 * Answers how many bytes there are after it is undone.
 */
export async function checkPayload(
  contentType: string,
  contentEncoding: string | undefined,
  body: Buffer,
  limit = maxDecodedBytes,
): Promise<number> {
  const { kind, charset } = typeOf(contentType);
  const coding = codingOf(contentEncoding);
  if (body.length === 0) return 0;
  const bytes = coding === undefined ? body : await decoded(coding, body, limit);
  if (bytes.length === 0) return 0;
  if (kind === 'json') checkJson(jsonText(bytes, charset));
  if (kind === 'multipart') await multipartForm(contentType, bytes);
  return bytes.length;
}

/**
 * What a body says: JSON as it is, an object of a form's fields, text as a string, `null` for no bytes, and base64 of
 * anything else. A name that comes twice in a form has an array of its values; an uploaded file is
 * `{filename, contentType, size, base64}`. Never throws: what cannot be read as what it says it is becomes base64.
 * `checked` says that `checkPayload` has passed it: then JSON is not read a second time.
 */
export async function payloadOf(
  contentType: string,
  contentEncoding: string | undefined,
  body: Buffer,
  { limit = maxDecodedBytes, checked = false } = {},
): Promise<Payload> {
  try {
    const { kind, charset } = typeOf(contentType);
    const coding = codingOf(contentEncoding);
    const bytes = coding === undefined || body.length === 0 ? body : await decoded(coding, body, limit);
    if (bytes.length === 0) return { payloadText: 'null' };
    return await read(kind, charset, contentType, bytes, checked);
  } catch (error) {
    // A RangeError: longer than a string can be, or nested deeper than can be read.
    if (!(error instanceof NexusError || error instanceof RangeError)) throw error;
    return asBase64(body);
  }
}

async function read(
  kind: Kind,
  charset: string | undefined,
  contentType: string,
  bytes: Buffer,
  checked: boolean,
): Promise<Payload> {
  if (kind === 'form') return written(fieldsOf(new URLSearchParams(bytes.toString('utf8'))));
  if (kind === 'multipart') return written(fieldsOf(await multipartFields(contentType, bytes)));
  if (kind === 'json') {
    const text = jsonText(bytes, charset);
    if (!checked) checkJson(text);
    return nestedDeeper(text, maxDepth) ? asBase64(bytes) : { payloadText: text.trim() };
  }
  const text = kind === 'text' ? textOf(bytes, charset) : undefined;
  return text === undefined ? asBase64(bytes) : written(text);
}

function written(value: string | object): Payload {
  return { payloadText: JSON.stringify(value) };
}

function asBase64(bytes: Buffer): Payload {
  return { payloadText: `"${bytes.toString('base64')}"`, encoding: 'base64' };
}

function typeOf(contentType: string): { kind: Kind; charset: string | undefined } {
  const end = contentType.indexOf(';');
  const essence = (end === -1 ? contentType : contentType.slice(0, end)).trim().toLowerCase();
  const charset =
    end === -1 ? undefined : /;\s*charset\s*=\s*"?([^\s";,]+)"?/i.exec(contentType.slice(end))?.[1];
  if (essence === '') return { kind: 'text', charset };
  if (!mediaType.test(essence))
    throw new NexusError('unsupported', `${JSON.stringify(essence.slice(0, 100))} is no Content-Type.`);
  if (jsonType.test(essence)) return { kind: 'json', charset };
  if (essence === 'application/x-www-form-urlencoded') return { kind: 'form', charset };
  if (essence === 'multipart/form-data') return { kind: 'multipart', charset };
  return { kind: textType.test(essence) ? 'text' : 'binary', charset };
}

const decoders = {
  gzip: promisify(gunzip),
  deflate: promisify(inflate),
  zstd: promisify(zstdDecompress),
};
type Coding = keyof typeof decoders;

function codingOf(contentEncoding = ''): Coding | undefined {
  const name = contentEncoding.trim().toLowerCase();
  if (name === '' || name === 'identity') return undefined;
  if (name === 'x-gzip') return 'gzip';
  if (name === 'gzip' || name === 'deflate' || name === 'zstd') return name;
  throw new NexusError(
    'unsupported',
    `The Content-Encoding ${JSON.stringify(name.slice(0, 100))} is not known here: use gzip, deflate, zstd or none.`,
  );
}

async function decoded(coding: Coding, body: Buffer, limit: number): Promise<Buffer> {
  try {
    return await decoders[coding](body, { maxOutputLength: Math.max(1, limit) });
  } catch (error) {
    if (error instanceof RangeError)
      throw new NexusError(
        'too_large',
        `The body has more than ${limit} bytes when its ${coding} is undone.`,
        {
          cause: error,
        },
      );
    throw new NexusError('invalid', `The body is not what its Content-Encoding says: no ${coding}.`, {
      cause: error,
    });
  }
}

function textOf(bytes: Buffer, charset: string | undefined): string | undefined {
  if (charset === undefined || /^utf-?8$/i.test(charset))
    return isUtf8(bytes) ? bytes.toString('utf8') : undefined;
  try {
    return new TextDecoder(charset, { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    // An unknown label is a RangeError, bytes that are not in it a TypeError.
    if (error instanceof RangeError || error instanceof TypeError) return undefined;
    throw error;
  }
}

function jsonText(bytes: Buffer, charset: string | undefined): string {
  const text = textOf(bytes, charset);
  if (text === undefined) throw new NexusError('invalid', `The JSON body is not in ${charset ?? 'UTF-8'}.`);
  return text.startsWith('\ufeff') ? text.slice(1) : text;
}

function checkJson(text: string): void {
  if (!isJson(text)) throw new NexusError('invalid', 'The body is not valid JSON.');
}

/** A name that comes once has its value, one that comes again an array of them; `__proto__` is one like the others. */
function fieldsOf(entries: Iterable<[string, unknown]>): Record<string, unknown> {
  const fields = new Map<string, unknown[]>();
  for (const [name, value] of entries) {
    const values = fields.get(name);
    if (values === undefined) fields.set(name, [value]);
    else values.push(value);
  }
  return Object.fromEntries(
    [...fields].map(([name, values]) => [name, values.length === 1 ? values[0] : values]),
  );
}

async function multipartFields(contentType: string, bytes: Buffer): Promise<[string, unknown][]> {
  const form = await multipartForm(contentType, bytes);
  return await Promise.all(
    [...form].map(async ([name, value]) => [name, await fieldOf(value)] as [string, unknown]),
  );
}

async function fieldOf(value: string | File): Promise<unknown> {
  if (typeof value === 'string') return value;
  const bytes = Buffer.from(await value.arrayBuffer());
  return {
    filename: value.name,
    contentType: value.type,
    size: bytes.length,
    base64: bytes.toString('base64'),
  };
}

async function multipartForm(contentType: string, bytes: Buffer): Promise<FormData> {
  try {
    const body = new Uint8Array(bytes);
    return await new Response(body, { headers: { 'content-type': contentType } }).formData();
  } catch (error) {
    throw new NexusError('invalid', 'The body is not the multipart form that its Content-Type says.', {
      cause: error,
    });
  }
}
