import type { Source, Verification } from '../../sources.ts';
import { github } from './github.ts';
import { gitlab } from './gitlab.ts';
import { hmac } from './hmac.ts';
import { linear } from './linear.ts';
import { meta } from './meta.ts';
import { type Head, type Proof, refused, type Scheme, type Signed } from './scheme.ts';
import { secret } from './secret.ts';
import { shopify } from './shopify.ts';
import { slack } from './slack.ts';
import { standard } from './standard.ts';
import { stripe } from './stripe.ts';
import { telegram } from './telegram.ts';
import { twilio } from './twilio.ts';

export type { Head, Signed } from './scheme.ts';

const schemes: Record<Exclude<Verification, 'key' | 'none'>, Scheme> = {
  github,
  stripe,
  slack,
  standard,
  gitlab,
  shopify,
  linear,
  telegram,
  twilio,
  meta,
  hmac,
  secret,
};

/**
 * Throws `unauthorized` unless one of the secrets is the sender's, in the way that the source is configured. `none`
 * lets anybody in. `key` is no proof of this kind: the caller asks for the key instead, and here nobody gets in.
 */
export function verifySender(source: Source, secrets: readonly string[], signed: Signed): void {
  if (source.verify === 'none') return;
  needMatch(proofOf(source, signed), secrets, signed.body);
}

/**
 * What can be told before the body is read: throws `unauthorized` where what the sender must present is missing,
 * malformed, too old, or wrong. True when that was all; false when `verifySender` must still see the body.
 */
export function verifyHead(source: Source, secrets: readonly string[], head: Head): boolean {
  if (source.verify === 'none') return true;
  const proof = proofOf(source, head);
  if (proof.overBody) return false;
  needMatch(proof, secrets, Buffer.alloc(0));
  return true;
}

function proofOf(source: Source, head: Head): Proof {
  const { verify } = source;
  if (verify === 'key' || verify === 'none') throw refused('This source needs a key.');
  return schemes[verify](head, source);
}

function needMatch(proof: Proof, secrets: readonly string[], body: Buffer): void {
  if (!secrets.some((secret) => secret !== '' && proof.matches(secret, body)))
    throw refused("What was presented is not of this source's secret, or not for this request.");
}
