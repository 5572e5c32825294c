import type { IncomingHttpHeaders } from 'node:http';
import { NexusError } from '../../errors.ts';
import type { Source } from '../../sources.ts';

/** What is known of a request before its body is read. */
export interface Head {
  headers: IncomingHttpHeaders;
  /** The parsed query: a name that comes twice is a list. */
  query: unknown;
  /** The URL as the sender called it, with its query; Twilio signs it. */
  url: string;
  now: Date;
}

export interface Signed extends Head {
  /** As received: not decoded, not parsed. */
  body: Buffer;
}

/** What a sender presented, read and found well-formed and not too old. */
export interface Proof {
  /** The body has a part in it: nothing is proved before it was read. */
  overBody: boolean;
  /** Asked for each secret, always of the same body. Throws `unauthorized` for what this one did sign, but too long ago. */
  matches(secret: string, body: Buffer): boolean;
}

/** Reads what a sender must present. Throws `unauthorized` when it is missing, malformed, repeated or too old. */
export type Scheme = (head: Head, source: Source) => Proof;

export function refused(sentence: string): NexusError {
  return new NexusError('unauthorized', sentence);
}

/** The one value of a header, `undefined` where there is none or an empty one. */
export function headerOf(headers: IncomingHttpHeaders, name: string): string | undefined {
  // Node joins most headers that are repeated with a comma, which no scheme takes for one value; some it discards.
  const value = headers[name];
  return typeof value === 'string' && value !== '' ? value : undefined;
}

export function needHeader({ headers }: Head, name: string): string {
  const value = headerOf(headers, name);
  if (value === undefined) throw refused(`This source needs the header ${name}, once.`);
  return value;
}

export function malformed(name: string): NexusError {
  return refused(`The header ${name} is not of the form that its scheme has.`);
}
