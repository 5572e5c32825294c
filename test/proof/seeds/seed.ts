/** A bug to put into a copy of the source, that a part must then find. */
export interface Seed {
  name: string;
  file: string;
  find: string;
  replace: string;
  part: string;
}
