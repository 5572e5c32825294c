// A program of its own: records some of the scenes and recovers from their power cuts. See `underShim`.
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { randomOf, shuffled, type Broken, type Site } from '../part.ts';
import { buildShim, hurried, type Operation, readOperations, type Shim } from '../shim/shim.ts';
import { runUnder } from '../shim/under.ts';
import { newWorld, type World } from '../world.ts';
import { deliverScenes } from './deliverscene.ts';
import { fileSystemOf, type Tree, treeOf } from './filesystem.ts';
import { receiveScene } from './receivescene.ts';
import type { After, Scene } from './scene.ts';
import { backfillScene, uploadScene } from './shipscene.ts';
import { openStage, type Stage } from './stage.ts';
import { statesOf } from './states.ts';

/** By lane: about the same work in each. */
const lanes: readonly (readonly Scene[])[] = [
  [receiveScene, uploadScene],
  [...deliverScenes, backfillScene],
];

/** Points that are tried in one pass over the record. */
const together = 12;
/** One state of so many is recovered by the binary, the others by its functions in this process. */
const byBinary = 50;

export interface LaneResult {
  scenes: { name: string; cuts: number; all: number; states: number; binary: number }[];
  broken: Broken[];
}

/** A scene that was recorded. */
interface Recording {
  scene: Scene;
  world: World;
  operations: Operation[];
  first: Tree;
  stage: Stage;
  after: After;
  /** Where to cut: after so many operations. Those that were tried are gone. */
  points: number[];
  cuts: number;
  all: number;
  states: number;
  binary: number;
  seen: Set<string>;
}

async function recordingOf(scene: Scene, own: string, seed: number, shim: Shim): Promise<Recording> {
  await mkdir(own);
  const world = hurried(await newWorld(own), shim);
  await scene.prepare(world);
  const first = await treeOf(world.home);
  const log = path.join(own, 'log');
  const after = await scene.perform(world, shim({ roots: [world.home], log, data: true }));
  const operations = await readOperations(log);
  const points = operations.flatMap(({ kind, offset }, at) =>
    // Nothing that could be lost or promised changes by these.
    kind === 'chmod' || (kind === 'say' && offset === 2) ? [] : [at],
  );
  // And when all was over.
  points.push(operations.length);
  const stage = await openStage(world.home);
  return {
    scene,
    world,
    operations,
    first,
    stage,
    after,
    points: shuffled(points, randomOf(seed)),
    cuts: 0,
    all: points.length,
    states: 0,
    binary: 0,
    seen: new Set(),
  };
}

/**
 * Cuts the power at a few points more; false when all were tried, or the time is over. `worst`: at each point, whatever
 * the time, and of what that may leave only what loses most.
 */
async function pass(
  recording: Recording,
  site: Site,
  worst: boolean,
  tell: (what: string) => void,
): Promise<boolean> {
  const { scene, world, operations, first, stage, after, points } = recording;
  const enough = (): boolean => !worst && Date.now() >= site.deadline;
  const cuts = new Set(worst ? points : points.splice(0, together));
  const system = fileSystemOf(world.home, first);
  let said = '';
  for (let at = 0; at <= operations.length && !enough(); at++) {
    if (cuts.has(at)) {
      const where = `${scene.name}, cut after operation ${at} of ${operations.length} (${lineOf(operations[at - 1], world)})`;
      for (const { tree, hash, how } of statesOf(system, randomOf(site.seed + at), worst)) {
        if (enough()) break;
        // The same files may be right before something was said, and wrong after.
        const key = `${hash} ${said.length}`;
        if (recording.seen.has(key)) continue;
        recording.seen.add(key);
        const binary = recording.states % byBinary === byBinary - 1;
        recording.states++;
        if (binary) recording.binary++;
        await stage.set(tree);
        for (const what of await recovered(after, said, binary)) tell(`${where}, ${how}: ${what}`);
      }
      if (!worst && !enough()) recording.cuts++;
    }
    const operation = operations[at];
    if (operation === undefined) break;
    system.apply(operation);
    // What goes to stderr is no promise.
    if (operation.kind === 'say' && operation.offset !== 2) said += operation.data.toString('latin1');
  }
  return points.length > 0 && !enough();
}

async function recovered(after: After, said: string, binary: boolean): Promise<string[]> {
  try {
    return [...new Set(await after(said, binary))];
  } catch (error) {
    return [error instanceof Error ? `${error.name} ${error.message}` : String(error)];
  }
}

function lineOf(operation: Operation | undefined, { home }: World): string {
  if (operation === undefined) return 'none';
  const { kind, path: file, other, offset, data } = operation;
  const names = [file, other].filter((one) => one !== '').map((one) => path.relative(home, one));
  return [kind, ...names, kind === 'write' ? `${data.length} at ${offset}` : ''].join(' ').trim();
}

await runUnder<LaneResult>(async (site, given) => {
  const own = path.join(site.directory, `lane${given}`);
  await mkdir(own);
  const shim = await buildShim(own);
  const recordings: Recording[] = [];
  for (const scene of lanes[Number(given)] ?? [])
    recordings.push(await recordingOf(scene, path.join(own, String(recordings.length)), site.seed, shim));
  const broken: Broken[] = [];
  const tell = (what: string): void => {
    broken.push({ what, again: `--seed ${site.seed} crashstates` });
    site.say(what);
  };
  for (const recording of recordings) await pass(recording, site, true, tell);
  for (let waiting = recordings; waiting.length > 0; ) {
    const next: Recording[] = [];
    for (const recording of waiting) if (await pass(recording, site, false, tell)) next.push(recording);
    waiting = next;
  }
  return {
    scenes: recordings.map(({ scene, cuts, all, states, binary }) => ({
      name: scene.name,
      cuts,
      all,
      states,
      binary,
    })),
    broken,
  };
});
