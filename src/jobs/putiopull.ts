import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config.ts';
import type { Environment } from '../configfile.ts';
import { describe, failedWith, NexusError } from '../errors.ts';
import { formatItems } from '../format.ts';
import type { Mailbox } from '../mailbox.ts';
import { confirmAt } from './confirming.ts';
import { lastLook } from './looks.ts';
import { shortName } from '../putio/callback.ts';
import type { FailedItem } from '../report.ts';
import type { PullReport } from './pullreport.ts';
import type { PullSurroundings } from './pullsite.ts';
import { openAccount } from './putioaccount.ts';
import { reconcile, type Reconciled } from './reconcile.ts';

export interface PutioSurroundings {
  config: Config;
  env: Environment;
  signal: AbortSignal;
  now: () => Date;
  warn: (message: string) => void;
}

/** One question of a confirmation, and one of a look that no person waits for. */
const confirmMs = 5_000;
const lookMs = 10_000;
/** All questions of such a look. */
const wholeMs = 60_000;

/** Fails that last so long are failures of the job; shorter ones put.io may have by itself. */
const patienceMs = 24 * 3_600_000;

/** A timer's runs are a little early or late. */
const slackMs = 30_000;

/** What a pull does with put.io, where there is a token. */
export function putioOfPull(around: PutioSurroundings): Pick<PullSurroundings, 'confirm' | 'reconcile'> {
  const { config, env, signal, now, warn } = around;
  const { token, confirm } = config.putio;
  if (token === undefined) return {};
  const open = () => openAccount(config, env, { signal, now, timeoutMs: confirmMs });
  return {
    ...(confirm ? { confirm: confirmAt(open, warn) } : {}),
    reconcile: (mailbox, report) => reconcileInPull(around, mailbox, report),
  };
}

/** After mail was delivered, so that a put.io which does not answer delays none. */
async function reconcileInPull(
  around: PutioSurroundings,
  mailbox: Mailbox,
  report: PullReport,
): Promise<void> {
  const { agent } = around.config.putio;
  const pulled = Object.entries(report.agents).map(([id, { as }]) => as ?? id);
  if (agent === undefined || !pulled.includes(agent)) return;
  try {
    const result = await reconcileWhenDue(around, mailbox, agent);
    if (result === undefined) return;
    report.reconciled = { found: result.found.length, already: result.already };
    report.warnings.push(...warningsOf(result));
    for (const warning of warningsOf(result)) around.warn(warning);
    report.failed.push(...result.failed);
    report.setAside.push(...result.setAside);
  } catch (error) {
    if (around.signal.aborted || failedWith(error, 'busy')) return;
    if (!(error instanceof NexusError)) throw error;
    if (await isLasting(around, agent, error)) report.failed.push(failureOf(error));
    else around.warn(`put.io could not be looked through, and is again: ${describe(error)}`);
  }
}

function failureOf(error: NexusError): FailedItem {
  return { item: 'put.io', reason: `It cannot be looked through: ${describe(error)}` };
}

/** A look when the last one is old enough; `undefined` when it is not. */
export async function reconcileWhenDue(
  around: PutioSurroundings,
  mailbox: Mailbox,
  agent: string,
): Promise<Reconciled | undefined> {
  const { config, env, signal, now } = around;
  const everyMs = config.putio.reconcileMinutes * 60_000;
  if (everyMs === 0) return undefined;
  const { triedAt } = await lastLook(config, agent);
  const since = now().getTime() - Date.parse(triedAt ?? '');
  // A clock that was set back does not put it off for long.
  if (since >= 0 && since < everyMs - slackMs) return undefined;
  const putio = await openAccount(config, env, { signal, now, timeoutMs: lookMs, wholeMs });
  return await reconcile({ agent }, { config, host: config.host, mailbox, putio, signal, now });
}

async function isLasting(
  { config, now }: PutioSurroundings,
  agent: string,
  error: NexusError,
): Promise<boolean> {
  if (!failedWith(error, 'unavailable', 'limited')) return true;
  const { lookedAt } = await lastLook(config, agent);
  // Also where a clock was ahead then.
  return lookedAt !== undefined && Math.abs(now().getTime() - Date.parse(lookedAt)) > patienceMs;
}

/** What a look found and could not settle, in sentences. */
export function warningsOf({ gone, warnings }: Pick<Reconciled, 'gone' | 'warnings'>): string[] {
  if (gone.length === 0) return warnings;
  const named = gone
    .slice(0, 5)
    .map(({ transfer, name, fileId }) =>
      name === undefined
        ? transfer === undefined
          ? `file ${fileId}`
          : `transfer ${transfer}`
        : shortName(name),
    );
  const more = gone.length > named.length ? ` and ${gone.length - named.length} more` : '';
  return [
    ...warnings,
    `${formatItems(gone.length, 'transfer')} finished and left put.io's list before this look, and nothing that came tells of ${gone.length === 1 ? 'it' : 'them'}: ${named.join(', ')}${more}.`,
  ];
}

const againMs = 60_000;

/** How the looks beside a pull that stays stand: of the last one. */
export interface PutioStanding {
  failed: FailedItem[];
  setAside: FailedItem[];
}

/**
 * The same beside a pull that stays, until the signal; `standing` is filled. What is wrong is said once, until it is
 * another thing.
 */
export async function followPutio(
  around: PutioSurroundings,
  openMailbox: () => Promise<Mailbox>,
  standing: PutioStanding,
  pauseMs = againMs,
): Promise<void> {
  const { config, signal } = around;
  const { agent, token } = config.putio;
  if (agent === undefined || token === undefined || config.putio.reconcileMinutes === 0) return;
  let said: string[] = [];
  const say = (sentences: string[]) => {
    for (const sentence of sentences) if (!said.includes(sentence)) around.warn(sentence);
    said = sentences;
  };
  while (!signal.aborted) {
    try {
      const mailbox = await openMailbox();
      try {
        const result = await reconcileWhenDue(around, mailbox, agent);
        if (result !== undefined) {
          const { failed, setAside } = result;
          Object.assign(standing, { failed, setAside });
          say([...warningsOf(result), ...failed.map(({ item, reason }) => `${item}: ${reason}`)]);
        }
      } finally {
        await mailbox.close();
      }
    } catch (error) {
      if (signal.aborted) return;
      await note(error);
    }
    await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
  }

  async function note(error: unknown): Promise<void> {
    if (failedWith(error, 'busy')) return;
    // Nobody waits for this before the pull ends: a bug is told too, and the next look is made.
    const why = error instanceof NexusError ? describe(error) : `internal error: ${stackOf(error)}`;
    say([`put.io could not be looked through: ${why}`]);
    // Where the mark cannot be read either, that is what has failed.
    const isOne =
      error instanceof NexusError && (await isLasting(around, agent ?? '', error).catch(() => true));
    if (isOne) standing.failed = [failureOf(error)];
  }
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
