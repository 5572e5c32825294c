/** A bug that a part of the proof must see, made in a copy of the project: `find` stands once in `file`. */
export interface Seed {
  name: string;
  file: string;
  find: string;
  replace: string;
  part: string;
}
