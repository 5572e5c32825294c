/** A bug to be put into a copy of the project, one at a time, and the part that must catch it. */
export interface Seed {
  /** What is wrong then, in a few words: `ack before commit`. */
  name: string;
  /** Relative to the project. */
  file: string;
  /** In the file exactly once. */
  find: string;
  replace: string;
  part: string;
}
