import type { Config } from '../config.ts';
import { formatItems } from '../format.ts';
import { coverageOf } from '../usagecoverage.ts';
import { indexPath, peekAt } from '../usagefile.ts';
import type { Standing } from '../usage.ts';

/** What the index of usage, as far as it has read, knows to be in no sum. An endpoint tells of its own. */
export function usageNotes(config: Config): string[] {
  if (config.endpoint !== undefined) return [];
  const standing = peekAt(indexPath(config.dataDir), coverageOf);
  return standing === undefined ? [] : notesOf(standing);
}

function notesOf({ uncounted, coverage: { unreadable } }: Standing): string[] {
  const missing = [
    ...(uncounted === 0 ? [] : [formatItems(uncounted, 'line')]),
    ...(unreadable.count === 0 ? [] : [formatItems(unreadable.count, 'transcript')]),
  ];
  if (missing.length === 0) return [];
  return [
    `${missing.join(' and ')} of the archive could not be counted as usage; \`nexus usage\` names what is odd.`,
  ];
}
