import { createHash, createHmac, timingSafeEqual } from 'node:crypto';

export type Algorithm = 'sha1' | 'sha256' | 'sha512';

const digestBytes: Record<Algorithm, number> = { sha1: 20, sha256: 32, sha512: 64 };

/** The HMAC of the parts, one after another. */
export function hmacOf(algorithm: Algorithm, key: string | Buffer, ...parts: (string | Buffer)[]): Buffer {
  const hmac = createHmac(algorithm, key);
  for (const part of parts) hmac.update(part);
  return hmac.digest();
}

/** Which byte differs is not told by the time it takes; the lengths may be. */
export function sameBytes(one: Buffer, other: Buffer): boolean {
  return one.length === other.length && timingSafeEqual(one, other);
}

/** Neither the bytes nor the length of a secret are told by the time it takes. */
export function sameSecret(secret: string, presented: Buffer): boolean {
  return timingSafeEqual(
    createHash('sha256').update(secret).digest(),
    createHash('sha256').update(presented).digest(),
  );
}

/** A digest as it is written: `undefined` unless it is whole, in one way only (hexadecimal in either case). */
export function digestOf(text: string, algorithm: Algorithm, encoding: 'hex' | 'base64'): Buffer | undefined {
  if (encoding === 'hex' && !/^[0-9a-fA-F]*$/.test(text)) return undefined;
  const bytes = Buffer.from(text, encoding);
  if (bytes.length !== digestBytes[algorithm]) return undefined;
  const again = bytes.toString(encoding);
  return again === (encoding === 'hex' ? text.toLowerCase() : text) ? bytes : undefined;
}
