import { refused } from './scheme.ts';

/** A whole number as a sender writes one: no sign, no leading zero, so that one time has one text. */
const wholeNumber = /^[1-9][0-9]{0,14}$/;

/** Seconds since 1970, `undefined` when the text is none. */
export function secondsOf(text: string): number | undefined {
  return wholeNumber.test(text) ? Number(text) : undefined;
}

/**
 * Throws unless a time is within the tolerance of now, before or after. Both count in whole seconds, as the vendors'
 * libraries do: one of exactly the tolerance is let in.
 */
export function needSeconds(seconds: number, now: Date, tolerance: number): void {
  if (Math.abs(Math.floor(now.getTime() / 1000) - seconds) > tolerance) throw outside();
}

/** As `needSeconds`, in milliseconds since 1970. */
export function needMilliseconds(milliseconds: number, now: Date, tolerance: number): void {
  if (!(Math.abs(now.getTime() - milliseconds) <= tolerance * 1000)) throw outside();
}

function outside() {
  return refused("The time that was signed is too far from this endpoint's clock.");
}
