import { statSync } from 'node:fs';
import { utimes, writeFile } from 'node:fs/promises';
import type { Alerts, Notice } from '../alerts.ts';
import { type AttendedJob, attendedJobs } from '../alertsettings.ts';
import { describe, failedWith } from '../errors.ts';
import { codeIn } from '../logline.ts';
import { isActive, isGone, type UnitFailure } from '../systemd/failure.ts';
import { keepFailure, keepWell } from './attend.ts';
import {
  alertOnJob,
  type AlertSurroundings,
  channelNames,
  hasHostAlerts,
  recoveredNotice,
  scopeOf,
  sendAlerts,
  sendToAll,
  withHostAlerts,
} from './hostalerts.ts';
import { ledgerFile, openLedger } from './ledger.ts';
import { streakOf } from './streak.ts';
import { endUnlatched, toldFile } from './unlatched.ts';

/** Jobs that a timer starts again: an alert waits for so many failures in a row. */
const byTimer: Record<string, AttendedJob> = {
  'nexus-upload.service': 'upload',
  'nexus-pull-webhooks.service': 'pull-webhooks',
  'nexus-status.service': 'status',
};

/** A job that is started once: its first failure is told. */
const onceOnly: Record<string, AttendedJob> = { 'nexus-backfill.service': 'backfill' };

/**
 * What a failed unit leads to. A run of a job that did not count itself, because it could not even begin or was
 * killed, is counted here; then the same is decided as at the end of each run. Any other unit is told at once, and
 * once, until it is active again: systemd has tried what there is to try.
 */
export async function alertOnUnit(
  around: AlertSurroundings,
  unit: string,
  failure: UnitFailure,
): Promise<void> {
  const job = byTimer[unit] ?? onceOnly[unit];
  const reason = [failure.reason, ...failure.lines].join('\n');
  try {
    if (job === undefined) await raiseOnUnit(around, unit, reason);
    else await countRun(around, unit, job, failure.invocation, reason);
  } catch (error) {
    if (!failedWith(error, 'unavailable', 'corrupt', 'forbidden', 'busy', 'config')) throw error;
    // A full disk, say: better told each hour than not at all, and than each minute, as some timers fail.
    const subject = job === undefined ? `unit/${unit}` : `job/${job}`;
    const told = toldFile(around, unit, `${failure.reason}\n${describe(error)}`);
    if (wasTold(around, told)) {
      around.warn(`This alert cannot be latched, and was sent within the last hour: ${describe(error)}`, {
        subject,
        code: error.code,
      });
      return;
    }
    around.warn(`This alert cannot be latched and may come again: ${describe(error)}`, {
      subject,
      code: error.code,
    });
    if (await sendUnlatched(around, unitNotice(around, unit, `${reason}\n${describe(error)}`)))
      await noteTold(around, told);
  }
}

async function countRun(
  around: AlertSurroundings,
  unit: string,
  job: AttendedJob,
  invocation: string | undefined,
  reason: string,
): Promise<void> {
  const ledger = openLedger(ledgerFile(around.config), around.warn);
  try {
    const at = around.now();
    if (invocation === undefined || !ledger.isCounted(invocation)) {
      keepFailure(ledger, job, at, at, reason);
      if (invocation !== undefined) ledger.noteInvocation(invocation, job);
    }
    await alertOnJob(around, ledger, job, unit in onceOnly ? 1 : undefined);
  } finally {
    ledger.close();
  }
}

async function raiseOnUnit(around: AlertSurroundings, unit: string, reason: string): Promise<void> {
  await withHostAlerts(around, async (alerts) => {
    await alerts.raise(unitNotice(around, unit, reason), await channelNames(around.config));
    await sendAlerts(alerts, around);
  });
}

function unitNotice({ config, env, now }: AlertSurroundings, unit: string, error: string): Notice {
  const { host } = config;
  const at = now().toISOString();
  return {
    event: 'failed',
    host,
    subject: `unit/${unit}`,
    title: `Nexus on ${host}: ${unit} has failed.`,
    error,
    since: at,
    next: `On ${host}, read \`journalctl${scopeOf(env)} -u ${unit} -n 50\`, and when it is mended run \`systemctl${scopeOf(env)} restart ${unit}\`.`,
    at,
  };
}

const betweenUnlatchedMs = 3_600_000;

function wasTold(around: AlertSurroundings, file: string): boolean {
  try {
    const before = statSync(file, { throwIfNoEntry: false })?.mtimeMs;
    const since = before === undefined ? -1 : around.now().getTime() - before;
    return since >= 0 && since < betweenUnlatchedMs;
  } catch (error) {
    around.warn(describe(error));
    return false;
  }
}

async function noteTold(around: AlertSurroundings, file: string): Promise<void> {
  const at = around.now();
  try {
    await writeFile(file, '', { mode: 0o600 });
    await utimes(file, at, at);
  } catch (error) {
    around.warn(describe(error));
  }
}

/** Whether anybody took it. */
async function sendUnlatched(around: AlertSurroundings, notice: Notice): Promise<boolean> {
  const { subject, event, host, at } = notice;
  const sent = await sendToAll(around, notice, `${host}.${at}.${subject}`);
  for (const { channel, failure } of sent)
    if (failure !== undefined)
      around.warn(`Alert not sent by ${channel}: ${describe(failure)}`, {
        subject,
        event,
        channel,
        code: codeIn(failure),
      });
  return sent.some(({ failure }) => failure === undefined);
}

/** Something that `nexus status` found and no job can say of itself, as a job that is not started any more. */
export interface Found {
  /** Like `silent/upload`. */
  subject: string;
  problem: string;
  next: string;
  /** ISO 8601: since when, where that is known. */
  since?: string | undefined;
}

/**
 * What `nexus status --alert` does, from a timer: sends what could not be sent, decides for each job what its last run
 * may not have lived to decide, ends the alerts of units that are active again, and raises and ends those of what it
 * found itself. `kinds` are the first parts of subjects that it looks for, so that one that is not found has ended,
 * but for those of which it could not tell.
 */
export async function alertOnStatus(
  around: AlertSurroundings,
  found: readonly Found[] = [],
  kinds: readonly string[] = [],
  undecided: readonly string[] = [],
): Promise<void> {
  const ledger = openLedger(ledgerFile(around.config), around.warn);
  try {
    const at = around.now();
    // It has come this far; and that not all is well is no failure of it.
    if (streakOf(ledger, 'status').verdict === 'failed') keepWell(ledger, 'status', at);
    for (const job of attendedJobs) await alertOnJob(around, ledger, job);
  } finally {
    ledger.close();
  }
  await endUnlatched(
    around,
    (unit) => byTimer[unit] ?? onceOnly[unit],
    (notice) => sendUnlatched(around, notice),
  );
  if (found.length === 0 && !hasHostAlerts(around.config)) return;
  await withHostAlerts(around, async (alerts) => {
    const { host } = around.config;
    const at = around.now().toISOString();
    const isOver = (subject: string) =>
      kinds.some((kind) => subject.startsWith(`${kind}/`)) &&
      !undecided.includes(subject) &&
      !found.some((one) => one.subject === subject);
    for (const { raised, recovered, subject } of await alerts.list())
      if (recovered === undefined && isOver(subject))
        await alerts.recover(recoveredNotice(host, raised, around.now()));
    await endOfUnits(alerts, around);
    for (const { subject, problem, next, since = at } of found)
      await alerts.raise(
        { event: 'failed', host, subject, title: `Nexus on ${host}: ${problem}`, next, since, at },
        await channelNames(around.config),
      );
    await sendAlerts(alerts, around);
  });
}

/** Ends the alerts of units that are active again or were taken away, and sends what is due. */
export async function endUnitAlerts(around: AlertSurroundings): Promise<void> {
  if (!hasHostAlerts(around.config)) return;
  await withHostAlerts(around, async (alerts) => {
    await endOfUnits(alerts, around);
    await sendAlerts(alerts, around);
  });
}

async function endOfUnits(alerts: Alerts, { config, env, now }: AlertSurroundings): Promise<void> {
  const { host } = config;
  for (const { raised, recovered, subject } of await alerts.list()) {
    const unit = /^unit\/(.+)$/s.exec(subject)?.[1];
    if (recovered !== undefined || unit === undefined) continue;
    const notice = recoveredNotice(host, raised, now());
    if (await isActive(unit, env)) await alerts.recover(notice);
    else if (await isGone(unit, env))
      await alerts.recover({ ...notice, title: `Nexus on ${host}: ${unit} was taken away.` });
  }
}
