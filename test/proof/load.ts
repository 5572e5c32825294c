import { curve } from './curve.ts';
import type { Part } from './part.ts';
import { soak } from './soak.ts';

const leastSoakMs = 18_000;
const soakPart = 0.75;

export const load: Part = {
  name: 'load',
  promise:
    'Under sessions, webhooks, pulls and queries together nothing that was acknowledged is lost or twice, and memory and handles stay flat; from 1 to 256 connections no webhook is lost.',
  share: 80,
  async run(site) {
    const given = site.deadline - Date.now();
    const soaked = await soak(site, Math.max(leastSoakMs, given * soakPart));
    const curved = await curve(site);
    const left =
      given * soakPart < 3_600_000
        ? [
            `An hour of it: the soak took ${(Math.max(leastSoakMs, given * soakPart) / 60_000).toFixed(1)} minutes. It is as long with --minutes 80 and this part alone.`,
          ]
        : [];
    return {
      counts: [...soaked.counts, ...curved.counts],
      broken: [...soaked.broken, ...curved.broken],
      left,
      tables: [...soaked.tables, ...curved.tables],
    };
  },
};
