import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { errnoOf } from './diskerrors.ts';
import { NexusError } from './errors.ts';

const headerBytes = 32;
const frameHeaderBytes = 24;
const looks = 4;
const betweenLooksMs = 15;

/**
 * Refuses, with `corrupt`, a database whose write-ahead log has rotted. What a process that was killed leaves in it is
 * taken up by the next that opens the database, up to the first frame whose sum is wrong: SQLite takes whatever follows
 * for the rest of a commit that a power cut tore, and drops it without a word. But a commit is synced before the next
 * one begins. So where a whole commit of the same log ends behind that frame and another frame comes after it, all of it
 * was committed. (In its last commit, rot is not to be told from a cut: sqlite.org/fileformat2.html, section 4.)
 */
export function checkWal(database: string): void {
  const file = `${database}-wal`;
  let before: string | undefined;
  // Another process may be writing to it: then it is another at the next look.
  for (let look = 0; look < looks; look++) {
    const found = damageIn(file);
    if (found === undefined) return;
    if (found !== before) look = Math.min(look, 1);
    before = found;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, betweenLooksMs);
  }
  throw new NexusError('corrupt', `${file} is damaged: what was committed last cannot be read from it.`, {
    hint: 'Restore it together with its database from a backup; without it, the database is as it was before.',
  });
}

/** What tells this damage from another, `undefined` for none. */
function damageIn(file: string): string | undefined {
  let handle: number;
  try {
    handle = openSync(file, 'r');
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    // SQLite says what it thinks of it.
    return undefined;
  }
  try {
    return damageOf(handle, fstatSync(handle).size);
  } finally {
    closeSync(handle);
  }
}

function damageOf(handle: number, size: number): string | undefined {
  if (size < headerBytes + frameHeaderBytes) return undefined;
  const header = readAt(handle, 0, headerBytes);
  const [salt1, salt2] = [header.readUInt32BE(16), header.readUInt32BE(20)];
  // Its first word may be what rotted.
  const little = (header.readUInt32BE(0) & 1) === 0;
  const sum = summed([0, 0], header.subarray(0, 24), little);
  if (sum[0] !== header.readUInt32BE(24) || sum[1] !== header.readUInt32BE(28)) {
    // One that a cut tore is of another log than the frames that were there before.
    const frame = readAt(handle, headerBytes, frameHeaderBytes);
    const same = frame.readUInt32BE(8) === salt1 || frame.readUInt32BE(12) === salt2;
    return same ? `header ${salt1} ${salt2}` : undefined;
  }
  const frameBytes = frameHeaderBytes + header.readUInt32BE(8);
  const frames = Math.floor((size - headerBytes) / frameBytes);
  let latest = sum;
  let bad: number | undefined;
  let committed = false;
  for (let at = 0; at < frames; at++) {
    const whole = bad === undefined;
    const frame = readAt(handle, headerBytes + at * frameBytes, whole ? frameBytes : frameHeaderBytes);
    const ours = frame.readUInt32BE(8) === salt1 && frame.readUInt32BE(12) === salt2;
    if (whole) {
      latest = summed(latest, frame.subarray(0, 8), little);
      latest = summed(latest, frame.subarray(frameHeaderBytes), little);
      const sound = ours && latest[0] === frame.readUInt32BE(16) && latest[1] === frame.readUInt32BE(20);
      if (sound) continue;
      bad = at;
    }
    if (ours && committed) return `frame ${bad} ${salt1} ${salt2}`;
    if (ours && frame.readUInt32BE(4) !== 0) committed = true;
  }
  return undefined;
}

function readAt(handle: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  // What another process cuts off meanwhile reads as zeros, which are of no log.
  readSync(handle, bytes, 0, length, position);
  return bytes;
}

/** SQLite's own sum, over words of 32 bits in the order of bytes that the log's first word says. */
function summed(before: readonly [number, number], bytes: Buffer, little: boolean): [number, number] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let [s0, s1] = before;
  for (let at = 0; at + 8 <= bytes.length; at += 8) {
    s0 = (s0 + view.getUint32(at, little) + s1) >>> 0;
    s1 = (s1 + view.getUint32(at + 4, little) + s0) >>> 0;
  }
  return [s0, s1];
}
