import type { Usage } from '../usage.ts';
import { within } from './patience.ts';

/** Not again for so long after a look at what was stored, ms. */
const looksEveryMs = 3000;
/** How long an answer waits for a look when nothing else is said; then it says as of when it is. */
const usualPatienceMs = 2000;

/** What the log says of a look that failed. */
export const notLooked = 'It could not be looked for what was stored since.';

/** Lets the index take up what was stored since, one look at a time, and waits for it a little. Never rejects. */
export function openRecent(
  usage: Pick<Usage, 'catchUp'>,
  patienceMs = usualPatienceMs,
): (failed: (error: unknown) => void) => Promise<void> {
  let lookedAt = Number.NEGATIVE_INFINITY;
  let looking: Promise<void> | undefined;
  return async (failed) => {
    if (performance.now() - lookedAt > looksEveryMs)
      looking ??= usage
        .catchUp()
        .then(() => undefined, failed)
        .finally(() => {
          lookedAt = performance.now();
          looking = undefined;
        });
    if (looking === undefined) return;
    await within(patienceMs, looking);
  };
}
