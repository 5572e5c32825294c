import { existsSync, renameSync, statSync } from 'node:fs';

/** `undefined` where there is none. */
export function inodeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}

/**
 * Puts a damaged file or directory aside as `….unreadable-<ms>`, with what belongs to it by these endings, and answers
 * its new name; `undefined` when another process did so first, which its inode tells. Whoever had it open closes it
 * before: SQLite removes its log by name.
 */
export function putAside(
  path: string,
  inode: number | undefined,
  endings: readonly string[] = [],
): string | undefined {
  if (inode === undefined || inodeOf(path) !== inode) return undefined;
  const aside = `${path}.unreadable-${Date.now()}`;
  renameSync(path, aside);
  // A log that stays would be read into what is begun anew.
  for (const ending of endings)
    if (existsSync(`${path}${ending}`)) renameSync(`${path}${ending}`, `${aside}${ending}`);
  return aside;
}
