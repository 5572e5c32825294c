/** A bug that one puts into a scratch copy, to see that a part of the proof catches it. */
export interface Seed {
  name: string;
  /** From the root of the project. */
  file: string;
  /** Exact text, there once. */
  find: string;
  replace: string;
  /** The part that catches it. */
  part: string;
}
