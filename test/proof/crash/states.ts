import { createHash } from 'node:crypto';
import { shuffled } from '../part.ts';
import { type Change, type FileSystem, hollow, torn, type Tree } from './filesystem.ts';

/** Of the changes that a power cut may undo, so many are lost alone, and kept alone; the more are chosen. */
const alone = 12;
const randomSubsets = 6;

export interface State {
  tree: Tree;
  /** SHA-256 of all that is in it. */
  hash: string;
  /** Which changes survived, in words. */
  how: string;
}

/** Trees that a power cut now may leave, each once; `worst`: only the two that lose most. */
export function* statesOf(system: FileSystem, random: () => number, worst: boolean): Generator<State> {
  const pending = system.pending();
  const seen = new Set<string>();
  for (const { how, survived } of worst ? worstOf(pending) : survivals(pending, random)) {
    const tree = system.after(survived);
    const hash = hashOf(tree);
    if (seen.has(hash)) continue;
    seen.add(hash);
    yield { tree, hash, how };
  }
}

interface Survival {
  how: string;
  survived: readonly Change[];
}

function* worstOf(pending: readonly Change[]): Generator<Survival> {
  yield { how: 'nothing that was not synced survived', survived: [] };
  yield { how: 'names survived, bytes did not', survived: pending.filter(({ kind }) => kind === 'names') };
}

function* survivals(pending: readonly Change[], random: () => number): Generator<Survival> {
  yield* worstOf(pending);
  yield { how: 'everything survived', survived: pending };
  for (const change of some(pending, random)) {
    yield { how: `lost: ${nameOf(change)}`, survived: pending.filter((one) => one !== change) };
    yield { how: `survived alone: ${nameOf(change)}`, survived: [change] };
  }
  const last = pending.findLast(({ kind }) => kind === 'write');
  for (const [how, spoil] of [
    ['torn', torn],
    ['hollow', hollow],
  ] as const) {
    const spoiled = last === undefined ? undefined : spoil(last);
    if (last === undefined || spoiled === undefined) continue;
    yield {
      how: `${how}: ${nameOf(last)}`,
      survived: pending.map((one) => (one === last ? spoiled : one)),
    };
    // With the names, without the other bytes.
    yield {
      how: `${how}, and names: ${nameOf(last)}`,
      survived: pending.flatMap((one) => (one === last ? spoiled : one.kind === 'names' ? one : [])),
    };
  }
  if (pending.length > 1)
    yield { how: 'bytes survived, names did not', survived: pending.filter(({ kind }) => kind !== 'names') };
  if (pending.length > 2)
    for (let n = 0; n < randomSubsets; n++)
      yield { how: `a random part survived (${n})`, survived: pending.filter(() => random() < 0.5) };
}

function some(pending: readonly Change[], random: () => number): readonly Change[] {
  return pending.length <= alone ? pending : shuffled(pending, random).slice(0, alone);
}

function nameOf(change: Change): string {
  if (change.kind === 'names')
    return change.entries.map(({ name, thing }) => `${thing === undefined ? '-' : '+'}${name}`).join(' ');
  return change.kind === 'write'
    ? `${change.data.length} bytes at ${change.offset} of inode ${change.thing.inode}`
    : `length ${change.length} of inode ${change.thing.inode}`;
}

function hashOf(tree: Tree): string {
  const hash = createHash('sha256');
  for (const [path, { bytes }] of tree) hash.update(`${path}\n${bytes?.length ?? 'd'}\n`).update(bytes ?? '');
  return hash.digest('hex');
}
