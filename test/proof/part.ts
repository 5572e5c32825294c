/**
 * A part of the proof: what it puts Nexus through, and what must hold meanwhile. What one run of it does is decided by
 * its minutes alone: cases are taken in an order that the seed decides, until the time is over.
 */
export interface Part {
  name: string;
  /** One sentence: what must hold. */
  promise: string;
  /** Its share of all minutes, beside the shares of the others: of the long form, its minutes. */
  share: number;
  run(site: Site): Promise<Result>;
}

/** Where and within what a part runs. */
export interface Site {
  /** Its own, empty, removed afterwards. */
  directory: string;
  /** When it begins no further case, ms since 1970. The least that a part promises to try may take longer. */
  deadline: number;
  seed: number;
  /** A line for who waits. */
  say(line: string): void;
}

export interface Result {
  /** What was tried, how often: `kill -9 of upload`, 251. */
  counts: Count[];
  /** Each promise that did not hold. The proof fails where there is one. */
  broken: Broken[];
  /** What was not tried, and why, a sentence each. */
  left: string[];
  tables?: Table[];
}

export interface Count {
  what: string;
  count: number;
  /** How many there are, where not every one was tried. */
  of?: number;
}

export interface Broken {
  what: string;
  /** How to see it again: the case, with its numbers. */
  again: string;
}

export interface Table {
  title: string;
  columns: string[];
  rows: string[][];
}

/** The same numbers from 0 up to 1 for the same seed (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** The same order for the same seed. */
export function shuffled<T>(cases: readonly T[], random: () => number): T[] {
  return cases
    .map((one) => ({ one, place: random() }))
    .toSorted((a, b) => a.place - b.place)
    .map(({ one }) => one);
}
