import path from 'node:path';
import { describe, failedWith, NexusError } from '../errors.ts';
import { codeIn } from '../logline.ts';
import { checkMovable, lookAtFile, moveToArchive } from '../openclaw/archive.ts';
import type { Place } from '../openclaw/source.ts';
import type { AgentRun } from './agentrun.ts';
import { measure, type Stored, storedDigest } from './ship.ts';
import type { Trust } from './trust.ts';

/**
 * Moves a stored file to `archive/`, when it still is what was shipped, OpenClaw does not use it again, and its bytes
 * as they are now are those that are stored, both read again. A move that is refused or not possible any more is a
 * warning: what is stored stays stored. Throws `corrupt` when the stored bytes have rotted, and the signal's reason.
 */
export async function moveStored(run: AgentRun, trust: Trust, place: Place, stored: Stored): Promise<void> {
  const directory = path.dirname(place.place);
  if (run.closedDirectories.has(directory)) {
    run.audit.notMoved = (run.audit.notMoved ?? 0) + 1;
    return;
  }
  try {
    await checkMovable(place.place);
    const { identity, signature } = await lookAtFile(place.place);
    if (signature !== place.signature) return;
    // Reset and deleted files are nobody's any more; a file that was left behind can be taken up again.
    if (place.movable === 'left' && (await run.look(place.place))?.movable !== 'left') return;
    const here = await measure(place, run.signal);
    if ((await storedDigest(run, stored.transcript, here.length)) !== here.sha256) return;
    const moved = await moveToArchive(place.place, identity);
    run.audit.moved++;
    run.ledger.record(run.store, run.agent, {
      ...moved,
      transcript: stored.transcript,
      length: here.length,
      sha256: here.sha256,
      complete: true,
      mark: await trust.mark(),
      at: run.now,
    });
    run.ledger.forget(run.store, run.agent, place.place);
  } catch (error) {
    const told = error instanceof NexusError || (error instanceof Error && 'code' in error);
    if (run.signal.aborted || failedWith(error, 'corrupt') || !told) throw error;
    // Gone or written to since: the next run looks at it as it is then.
    if (failedWith(error, 'changed')) return;
    run.audit.notMoved = (run.audit.notMoved ?? 0) + 1;
    // Several at once may have met the same closed directory: once is enough said.
    if (run.closedDirectories.has(directory)) return;
    if (failedWith(error, 'forbidden')) run.closedDirectories.add(directory);
    run.warn(`${place.place} is stored, but not moved to archive/: ${describe(error)}`, {
      item: place.place,
      code: codeIn(error),
    });
  }
}
