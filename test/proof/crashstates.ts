import path from 'node:path';
import type { LaneResult } from './crash/lane.ts';
import type { Part } from './part.ts';
import { buildShim } from './shim/shim.ts';
import { underShim } from './shim/under.ts';

const lane = path.join(import.meta.dirname, 'crash', 'lane.ts');

export const crashstates: Part = {
  name: 'crashstates',
  promise:
    'Whatever a power cut leaves of what was not synced, at whichever operation it comes, everything that was ' +
    'acknowledged before is there byte for byte, nothing is delivered or stored twice, and the next run goes on.',
  share: 12,
  async run(site) {
    const shim = await buildShim(site.directory);
    // Both to their ends, since what fails one leaves the files to be removed.
    const ends = await Promise.allSettled(
      ['0', '1'].map((given) => underShim<LaneResult>(lane, shim, site, given)),
    );
    const results = ends.map((end) => {
      if (end.status === 'rejected') throw end.reason;
      return end.value;
    });
    const scenes = results.flatMap((result) => result.scenes);
    return {
      counts: [
        {
          what: 'power cuts after which nothing survived that was not synced, or names alone',
          count: scenes.reduce((sum, { all }) => sum + all, 0),
        },
        ...scenes.map(({ name, cuts, all }) => ({
          what: `power cuts in ${name}, with all that may survive`,
          count: cuts,
          of: all,
        })),
        {
          what: 'different states that these may leave, each recovered from',
          count: scenes.reduce((sum, { states }) => sum + states, 0),
        },
        {
          what: 'of them by the built binary, the others by its functions in process',
          count: scenes.reduce((sum, { binary }) => sum + binary, 0),
        },
      ],
      broken: results.flatMap(({ broken }) => broken),
      left: [
        'Where more than 12 changes were not synced, each lost alone and kept alone: 12 of them are chosen.',
        'A rename of which only one half survives, which journaling file systems exclude.',
      ],
    };
  },
};
