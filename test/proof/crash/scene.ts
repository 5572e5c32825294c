import type { World } from '../world.ts';

/** Something that Nexus does while it is recorded, and what must hold after a power cut in the middle of it. */
export interface Scene {
  name: string;
  /** What it begins from, all of it on stable storage. */
  prepare: (world: World) => Promise<void>;
  /** Does it with `env`, under which it is recorded; then nothing of Nexus runs any more. */
  perform: (world: World, env: Record<string, string>) => Promise<After>;
}

/**
 * Goes on after a power cut: the files are those that the cut left, and `said` is all that was said to the outside
 * before it. `binary`: by the built one; else by the same functions in this process. Answers what did not hold.
 */
export type After = (said: string, binary: boolean) => Promise<string[]>;
