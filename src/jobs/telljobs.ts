import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from '../config.ts';
import { describe, failedWith } from '../errors.ts';
import { type JobReport, seriesOf } from '../jobreports.ts';
import { codeIn, type Say } from '../logline.ts';
import { isFresh, openJobTeller } from '../open.ts';
import type { RunEnd } from './jobstates.ts';
import { type Ledger, ledgerFile } from './ledger.ts';

export interface Telling {
  config: Config;
  warn: Say;
  version?: string | undefined;
  /** Nexus cannot be reached, or does not know the key, which is said already: it is not told. */
  unreachable?: boolean;
  /** Closed by who gives this. */
  openLedger: () => Ledger;
}

/** All of it takes no longer. */
const longestMs = 3000;

/**
 * Keeps in the ledger how a run ended, writes the textfile anew where there shall be one, and tells Nexus, whose
 * endpoint shows it to monitors. Never throws, and never takes longer than a few seconds.
 */
export async function tellRunEnd(around: Telling, end: RunEnd): Promise<void> {
  const { config, warn } = around;
  try {
    const { textfile } = config.metrics;
    // Where nothing ever ran, a first failure, or a look, leaves nothing behind.
    if (textfile === undefined && !existsSync(ledgerFile(config))) return;
    const ledger = around.openLedger();
    const report = ledger.noteEnd(end);
    if (textfile !== undefined) await writeMetrics(textfile, config.host, ledger.jobStates(), warn);
    if (around.unreachable !== true) await tellNexus(around, report, end.verdict === 'failed');
  } catch (error) {
    warn(`How ${end.job} ended cannot be kept for the metrics: ${describe(error)}`, {
      code: codeIn(error),
    });
  }
}

async function writeMetrics(
  file: string,
  host: string,
  states: readonly JobReport[],
  warn: Say,
): Promise<void> {
  try {
    const { textOf, writeTextfile } = await import('./textfile.ts');
    await writeTextfile(file, textOf(seriesOf(states.map((state) => ({ ...state, host })))));
  } catch (error) {
    warn(describe(error), { code: codeIn(error) });
  }
}

/** Once: who was not told this time is told by the next run. */
async function tellNexus(
  { config, warn, version = '0' }: Telling,
  report: JobReport,
  failed: boolean,
): Promise<void> {
  const patience = new AbortController();
  try {
    const told = (async () => {
      // What failed before there was a store does not make one for this.
      if (failed && (await isFresh(config))) return true;
      const teller = await openJobTeller(config, version, longestMs - 500);
      try {
        await teller.tell(report);
      } finally {
        await teller.close();
      }
      return true;
    })();
    const late = delay(longestMs, false, { signal: patience.signal }).catch(() => false);
    if (!(await Promise.race([told, late])))
      warn(`Nexus was not told how ${report.job} ended: it did not answer in time.`, { code: 'unavailable' });
    told.catch(() => undefined);
  } catch (error) {
    // An endpoint of an earlier version has no ear for it.
    if (!failedWith(error, 'not_found'))
      warn(`Nexus was not told how ${report.job} ended: ${describe(error)}`, { code: codeIn(error) });
  } finally {
    patience.abort();
  }
}
