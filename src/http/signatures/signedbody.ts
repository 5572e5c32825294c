import { type Algorithm, digestOf, hmacOf, sameBytes } from './compare.ts';
import { malformed, type Proof } from './scheme.ts';

/** A signature over the body, or over the body between two texts, that a header carries after a prefix. */
export interface BodySignature {
  header: string;
  value: string;
  algorithm: Algorithm;
  encoding: 'hex' | 'base64';
  prefix?: string;
  /** What is signed besides the body, and in what order. */
  around?: (body: Buffer) => (string | Buffer)[];
}

export function bodySignature(about: BodySignature): Proof {
  const { header, value, algorithm, encoding, prefix = '', around = (body) => [body] } = about;
  const digest = value.startsWith(prefix)
    ? digestOf(value.slice(prefix.length), algorithm, encoding)
    : undefined;
  if (digest === undefined) throw malformed(header);
  return {
    overBody: true,
    matches: (secret, body) => sameBytes(digest, hmacOf(algorithm, secret, ...around(body))),
  };
}
