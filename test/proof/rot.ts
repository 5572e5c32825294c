import { openLocalStore } from '../../src/stores/local.ts';
import { type Broken, type Count, type Part, randomOf, type Result, type Site } from './part.ts';
import { azureRot, type Note } from './rot/azure.ts';
import { observeBinary } from './rot/binary.ts';
import { type Kind, storeKinds } from './rot/kinds.ts';
import { ledgerKinds } from './rot/ledgers.ts';
import { leaveLog, type Made, makeWorld } from './rot/made.ts';
import { judged, nothingSeen, observe, verify } from './rot/observe.ts';
import { type Snapshot, snapshotOf } from './rot/snapshot.ts';
import { walKind } from './rot/wal.ts';

/** Bits of each kind, at least. */
const least = 20;
/** One of so many rounds over the kinds of a store goes through the built binary too. */
const roundsForBinary = 40;
const firstBinary = 4;
/** More would say no more. */
const mostBroken = 20;

/** Rot of one kind, and what does not hold then. */
interface Trial {
  kind: Kind;
  before: Snapshot;
  check: () => Promise<string | undefined>;
}

export const rot: Part = {
  name: 'rot',
  promise:
    'A bit that changes in anything that is stored is found by `backfill --verify` or on reading, and named; what it is in is never served as good, never delivered twice and never taken for shipped.',
  share: 15,
  run,
};

/** Of the time: what is left is for Azure. */
const localShare = 0.85;
const leastAzure = 5;

async function run(site: Site): Promise<Result> {
  const random = randomOf(site.seed);
  const broken: Broken[] = [];
  const counts = new Map<string, number>();
  const note: Note = (what, kind, again, wrong) => {
    counts.set(what, (counts.get(what) ?? 0) + 1);
    if (wrong !== undefined)
      broken.push({ what: `${kind}: ${wrong}`, again: `--seed ${site.seed}, ${kind}: ${again}` });
  };
  const made = await makeWorld(site.directory);
  const base = await snapshotOf(made.world.home);
  const trials = await trialsOf(made, base);
  const throughBinary = await binaryTrials(made, base);
  const deadline = site.deadline - (1 - localShare) * Math.max(0, site.deadline - Date.now());
  for (let round = 0; (round < least || Date.now() < deadline) && broken.length < mostBroken; round++) {
    for (const { kind, before, check } of trials) {
      if (round >= least && Date.now() >= deadline) break;
      await before.restore();
      note(kind.name, kind.name, await kind.rot(random), await check());
    }
    // At first those of which the most is read; then, now and then, all.
    const some = round === 0 ? throughBinary.slice(0, firstBinary) : throughBinary;
    for (const { kind, check } of round % roundsForBinary === 0 ? some : []) {
      if (round > 0 && Date.now() >= deadline) break;
      await base.restore();
      const again = await kind.rot(random);
      note(
        'of a store, seen through serve, pull-webhooks, usage and backfill',
        kind.name,
        again,
        await check(),
      );
    }
    if (round % 50 === 49) site.say(`rot: ${round + 1} rounds over ${trials.length} kinds`);
  }
  await base.restore();
  await azureRot(made, random, { least: leastAzure, deadline: site.deadline }, note);
  return { counts: [...counts].map(([what, count]): Count => ({ what, count })), broken, left };
}

const left = [
  'The last commit in the log of a process that was killed: rot in it is not to be told from what a power cut leaves.',
  'Parts of a transcript: only a whole reading is compared with a sum.',
  'On Azure, rows but for the payloads of webhooks, and transcripts that are read and not verified: the service keeps sums of its own.',
  'A sender that repeats a delivery whose row has rotted is a second item: `backfill --verify` names the row.',
];

async function trialsOf(made: Made, base: Snapshot): Promise<Trial[]> {
  const open = () => openLocalStore(made.storeDir);
  const kinds = await storeKinds(made.storeDir, made.grown);
  const ledgers = await ledgerKinds(made);
  const seen = await observe(open);
  let looked = 0;
  const found = (before: typeof seen, promised: boolean) => async () => {
    const now = await observe(open);
    const named = now.named.length > 0;
    // What reading names need not be found twice, and is not each time.
    const verified = named && ++looked % 5 !== 0 ? nothingSeen() : await verify(made, open);
    return judged(before, now, verified, promised);
  };
  const sound = judged(seen, await observe(open), await verify(made, open), false);
  const named = (await verify(made, open)).named;
  if (sound !== undefined || named.length > 0)
    throw new Error(`Nothing has rotted yet: ${sound} ${named.join()}`);
  await base.restore();
  const crashed = await leaveLog(made);
  const atCrash = await observe(open);
  await base.restore();
  return [
    ...kinds.map((kind) => ({ kind, before: base, check: found(seen, kind.promised) })),
    { kind: walKind(`${made.storeDir}/store.sqlite`), before: crashed, check: found(atCrash, false) },
    ...ledgers.map((kind) => ({ kind, before: base, check: kind.check })),
  ];
}

async function binaryTrials(made: Made, base: Snapshot): Promise<Pick<Trial, 'kind' | 'check'>[]> {
  const kinds = await storeKinds(made.storeDir, made.grown);
  const { seen, verified } = await observeBinary(made);
  const wrong = [...seen.named, ...seen.unexpected, ...verified.named];
  if (wrong.length > 0) throw new Error(`Nothing has rotted yet: ${wrong.join()}`);
  await base.restore();
  const check = (promised: boolean) => async () => {
    const now = await observeBinary(made);
    return judged(seen, now.seen, now.verified, promised);
  };
  // Those first of which the most is read.
  const first = ['transcript, active', 'row of Sessions', 'row of WebhookItems', 'payload blob'];
  const placeOf = ({ name }: Kind): number => {
    const at = first.findIndex((one) => name.startsWith(one));
    return at < 0 ? first.length : at;
  };
  return kinds
    .toSorted((one, other) => placeOf(one) - placeOf(other))
    .map((kind) => ({ kind, check: check(kind.promised) }));
}
