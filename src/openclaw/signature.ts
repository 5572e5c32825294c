import type { Stats } from 'node:fs';

/** A file's signature: differs whenever its bytes may have changed. */
export function signatureOf({ size, mtimeMs, ctimeMs }: Stats): string {
  // The time of the last change of anything catches a rewrite that set the modification time back.
  return `${size}:${mtimeMs}:${ctimeMs}`;
}
