import type { Broken, Count } from '../part.ts';

/** What was seen: counted, and what did not hold, each kind of it a few times. */
export interface Notes {
  /** `of`: how many there are. */
  count(what: string, count?: number, of?: number): void;
  broken(what: string, again: string): void;
  left(sentence: string): void;
  /** How much of a kind was tried so far. */
  counted(what: string): number;
  counts(): Count[];
  breaks(): Broken[];
  leftOut(): string[];
}

/** Of one kind; one cause breaks the same promise in many cases. */
const mostOfOne = 3;

export function openNotes(): Notes {
  const counts = new Map<string, Count>();
  const broken = new Map<string, string[]>();
  const left = new Set<string>();
  return {
    count(what, count = 1, of) {
      const before = counts.get(what)?.count ?? 0;
      counts.set(what, { what, count: before + count, ...(of === undefined ? {} : { of }) });
    },
    broken(what, again) {
      const seen = broken.get(what) ?? [];
      if (seen.length < mostOfOne) broken.set(what, [...seen, again]);
    },
    left: (sentence) => void left.add(sentence),
    counted: (what) => counts.get(what)?.count ?? 0,
    counts: () => [...counts.values()],
    breaks: () => [...broken].flatMap(([what, seen]) => seen.map((again) => ({ what, again }))),
    leftOut: () => [...left],
  };
}
