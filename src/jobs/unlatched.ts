import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Notice } from '../alerts.ts';
import type { AttendedJob } from '../alertsettings.ts';
import { isActive, isGone } from '../systemd/failure.ts';
import { type AlertSurroundings, hasHostAlerts, recoveredNotice, withHostAlerts } from './hostalerts.ts';
import { ledgerFile, openLedger } from './ledger.ts';

/**
 * What was told though it could not be latched, by the time of an empty file, for which a full disk mostly has room:
 * one for each way in which a unit failed, so that another failure is told as well.
 */
export function toldFile(
  { config }: Pick<AlertSurroundings, 'config'>,
  unit: string,
  reason: string,
): string {
  const digest = createHash('sha256').update(reason).digest('hex').slice(0, 8);
  return path.join(config.dataDir, 'host', `told-${unit}-${digest}`);
}

/** After so long nobody waits for its end any more. */
const staleMs = 3 * 86_400_000;

/**
 * Tells the end of what was told and could not be latched, where its unit works again by now: its job has been well
 * since, or it is active. What was latched after all is ended by its alert.
 */
export async function endUnlatched(
  around: AlertSurroundings,
  jobOf: (unit: string) => AttendedJob | undefined,
  send: (notice: Notice) => Promise<boolean>,
): Promise<void> {
  const { config, now } = around;
  const directory = path.join(config.dataDir, 'host');
  if (!existsSync(directory)) return;
  const units = new Map<string, { files: string[]; at: number }>();
  for (const name of await readdir(directory)) {
    const unit = /^told-(.+)-[0-9a-f]{8}$/.exec(name)?.[1];
    if (unit === undefined) continue;
    const file = path.join(directory, name);
    const { mtimeMs } = await stat(file);
    const before = units.get(unit);
    units.set(unit, { files: [...(before?.files ?? []), file], at: Math.max(mtimeMs, before?.at ?? 0) });
  }
  for (const [unit, { files, at }] of units) {
    const job = jobOf(unit);
    const subject = job === undefined ? `unit/${unit}` : `job/${job}`;
    const title = `Nexus on ${config.host}: ${job ?? unit} failed.`;
    const raised: Notice = {
      event: 'failed',
      host: config.host,
      subject,
      title,
      at: new Date(at).toISOString(),
    };
    const isStale = Math.abs(now().getTime() - at) > staleMs || (await isGoneUnit(around, unit, job));
    const settled = isStale || (await isLatched(around, subject, at));
    if (!settled && !(await worksAgain(around, unit, job, at))) continue;
    if (settled || (await send(recoveredNotice(config.host, raised, now()))))
      for (const file of files) await rm(file, { force: true });
  }
}

async function isGoneUnit(
  { env }: AlertSurroundings,
  unit: string,
  job: AttendedJob | undefined,
): Promise<boolean> {
  return job === undefined && (await isGone(unit, env));
}

/** Its alert lasts, or has ended since. */
async function isLatched(around: AlertSurroundings, subject: string, at: number): Promise<boolean> {
  if (!hasHostAlerts(around.config)) return false;
  const latched = await withHostAlerts(around, (alerts) => alerts.list());
  return latched.some(
    (one) => one.subject === subject && (one.recovered === undefined || Date.parse(one.recovered.at) >= at),
  );
}

async function worksAgain(
  { config, env, warn }: AlertSurroundings,
  unit: string,
  job: AttendedJob | undefined,
  at: number,
): Promise<boolean> {
  if (job === undefined) return await isActive(unit, env);
  const ledger = openLedger(ledgerFile(config), warn);
  try {
    const [last] = ledger.runs(job, 1);
    return last?.ok === true && Date.parse(last.endedAt) > at;
  } finally {
    ledger.close();
  }
}
