import { existsSync } from 'node:fs';
import path from 'node:path';
import { type Alerts, type Latched, type Notice, openAlerts, type Sent } from '../alerts.ts';
import type { Config } from '../config.ts';
import type { Environment } from '../configfile.ts';
import { describe, failedWith, NexusError } from '../errors.ts';
import { type Say } from '../logline.ts';
import { openLocalStore } from '../stores/local.ts';
import { inodeOf, putAside } from './aside.ts';
import { atRisk } from './atrisk.ts';
import { setAsideSummary } from './failures.ts';
import type { Ledger } from './ledger.ts';
import { streakOf } from './streak.ts';

/**
 * Alerts of this host's jobs and units are latched on this host, in a small embedded store of their own, and not in
 * the store that is shipped to: that may be the very thing that is down, and they are about this host alone. What
 * concerns all hosts, as a budget does, is latched in the shared store by the same code.
 */
function alertsDirectory(config: Config): string {
  return path.join(config.dataDir, 'host', 'alerts');
}

export interface AlertSurroundings {
  config: Config;
  env: Environment;
  now: () => Date;
  warn: Say;
  info: Say;
  /** Ends what is being sent. */
  signal?: AbortSignal | undefined;
  /** A job that has work to do waits for a channel a few seconds; what it did not take is sent by who has time. */
  hasty?: boolean | undefined;
}

/** True where an alert was ever raised on this host. */
export function hasHostAlerts(config: Config): boolean {
  return existsSync(alertsDirectory(config));
}

/**
 * Works on them. Damaged they are put aside and begun anew, and `warn` is told: what lasts may be told again, and nothing
 * is silent because of it. `work` is then done once more, from its beginning.
 */
export async function withHostAlerts<T>(
  { config, now, warn }: Pick<AlertSurroundings, 'config' | 'now' | 'warn'>,
  work: (alerts: Alerts) => Promise<T>,
): Promise<T> {
  const directory = alertsDirectory(config);
  const before = inodeOf(directory);
  try {
    return await onHostAlerts({ config, now }, work);
  } catch (error) {
    if (!failedWith(error, 'corrupt')) throw error;
    const aside = putAside(directory, before ?? inodeOf(directory));
    if (aside !== undefined)
      warn(
        `The alerts of this host could not be read (${error.message}); they are kept as ${aside} and begun anew.`,
        {
          code: error.code,
        },
      );
    return await onHostAlerts({ config, now }, work);
  }
}

/** Only looks at them: what is damaged stays as it is. */
export async function lookAtHostAlerts(
  around: Pick<AlertSurroundings, 'config' | 'now'>,
): Promise<Latched[]> {
  if (!hasHostAlerts(around.config)) return [];
  try {
    return await onHostAlerts(around, (alerts) => alerts.list());
  } catch (error) {
    if (!failedWith(error, 'corrupt')) throw error;
    throw new NexusError('corrupt', error.message, {
      hint: 'Run `nexus status --alert`: it puts them aside and begins anew.',
      cause: error,
    });
  }
}

async function onHostAlerts<T>(
  { config, now }: Pick<AlertSurroundings, 'config' | 'now'>,
  work: (alerts: Alerts) => Promise<T>,
): Promise<T> {
  const store = await openLocalStore(alertsDirectory(config));
  try {
    return await work(openAlerts(store, { now: () => now().getTime() }));
  } finally {
    await store.close();
  }
}

/** All channels together take no longer. A lease is twice as long. */
const sendingMs = 55_000;

/** What each channel may take of a job's time; to start a program takes longer than to ask. */
const hastyMs = { webhook: 5_000, command: 15_000, email: 15_000, agent: 15_000 } as const;

/** Sends what is due on the channels of the configuration; who does not take it is warned of. */
export async function sendAlerts(alerts: Alerts, around: AlertSurroundings): Promise<Sent[]> {
  const { openChannels } = await import('../channels/open.ts');
  const { config, env, signal, hasty } = around;
  const channels = openChannels(config, env).map((channel, n) => {
    const kind = config.alerts.channels[n]?.kind;
    return hasty === true && kind !== undefined ? { ...channel, longestMs: hastyMs[kind] } : channel;
  });
  const timeout = AbortSignal.timeout(sendingMs);
  const sent = await alerts.send(
    channels,
    signal === undefined ? timeout : AbortSignal.any([timeout, signal]),
  );
  for (const { channel, notice, failure } of sent) {
    const { subject, event } = notice;
    const facts = { subject, event, channel };
    if (failure === undefined) around.info(`Alert sent by ${channel}: ${notice.title}`, facts);
    else around.warn(`Alert not sent by ${channel}, to be tried again: ${failure}`, facts);
  }
  return sent;
}

/** What a channel answered, or what it threw. */
export interface Tried {
  channel: string;
  answer?: string;
  failure?: unknown;
}

/** Sends one notice through every channel of the configuration, in their order, and latches nothing. */
export async function sendToAll(
  { config, env, signal }: Pick<AlertSurroundings, 'config' | 'env' | 'signal'>,
  notice: Notice,
  id: string,
): Promise<Tried[]> {
  const { openChannels } = await import('../channels/open.ts');
  const timeout = AbortSignal.timeout(sendingMs);
  const until = signal === undefined ? timeout : AbortSignal.any([timeout, signal]);
  return await Promise.all(
    openChannels(config, env).map(async ({ name, send }) => {
      try {
        return { channel: name, answer: await send(notice, id, until) };
      } catch (failure) {
        return { channel: name, failure };
      }
    }),
  );
}

/**
 * Raises the alert of a job that has failed so often in a row, or ends it where the last run was well, and sends what
 * is due. May be called any number of times after each run, by several processes at once.
 */
export async function alertOnJob(
  around: AlertSurroundings,
  ledger: Ledger,
  job: string,
  after: number = around.config.alerts.afterFailures,
): Promise<void> {
  const streak = streakOf(ledger, job);
  const { config, now } = around;
  const failing = streak.verdict === 'failed' && streak.failures >= after;
  if (!failing && !hasHostAlerts(config)) return;
  await withHostAlerts(around, async (alerts) => {
    const subject = `job/${job}`;
    const lasting = (await alerts.list()).find(
      (one) => one.subject === subject && one.recovered === undefined,
    );
    if (failing && lasting === undefined)
      await alerts.raise(
        failedNotice(around, job, streak, await riskOf(around, job, ledger)),
        await channelNames(around.config),
      );
    if (streak.verdict === 'well' && lasting !== undefined)
      await alerts.recover(recoveredNotice(config.host, lasting.raised, now(), streak.setAside));
    await sendAlerts(alerts, around);
  });
}

export async function channelNames(config: Config): Promise<string[]> {
  const { nameOf } = await import('../channels/open.ts');
  return config.alerts.channels.map(nameOf);
}

/** Only what systemd started has a journal of its own: its system's, or its user's. */
function logOf(env: Environment, job: string): string {
  if (!env['INVOCATION_ID']) return '';
  return `; its log is in \`journalctl${scopeOf(env)} -u nexus-${job}\``;
}

/** What systemctl and journalctl have to be told to find a unit of where this runs. */
export function scopeOf(env: Environment): string {
  return env['MANAGERPID'] ? ' --user' : '';
}

function failedNotice(
  { config, env, now }: AlertSurroundings,
  job: string,
  { failures, reason, since }: { failures: number; reason?: string; since?: string },
  risk: string | undefined,
): Notice {
  const { host } = config;
  const often = failures === 1 ? 'has failed' : `has failed ${failures} times in a row`;
  return {
    event: 'failed',
    host,
    subject: `job/${job}`,
    title: `Nexus on ${host}: ${job} ${often}.`,
    ...(reason === undefined ? {} : { error: reason }),
    ...(since === undefined ? {} : { since }),
    ...(risk === undefined ? {} : { atRisk: risk }),
    next: `On ${host}, run \`nexus status\`, and \`nexus ${job}\` to see it fail${logOf(env, job)}.`,
    at: now().toISOString(),
  };
}

export function recoveredNotice(host: string, raised: Notice, at: Date, setAside = 0): Notice {
  const { subject, error, since } = raised;
  const what = subject.slice(subject.indexOf('/') + 1);
  return {
    event: 'recovered',
    host,
    subject,
    title: `Nexus on ${host}: ${what} works again.`,
    ...(error === undefined ? {} : { error }),
    since: since ?? raised.at,
    ...(setAside > 0 ? { next: `${setAsideSummary(setAside)}.` } : {}),
    at: at.toISOString(),
  };
}

const lookingMs = 20_000;

/** An alert does not wait for a file system that hangs, and is not lost to a state directory that is gone. */
async function riskOf(
  { config, env, now }: AlertSurroundings,
  job: string,
  ledger: Ledger,
): Promise<string | undefined> {
  if (job === 'pull-webhooks') return 'nothing is lost: what was accepted is kept until it is delivered.';
  if (job === 'status') return undefined;
  const timer = new AbortController();
  try {
    const { setTimeout: pause } = await import('node:timers/promises');
    const looked = atRisk(config, env, ledger, now().getTime());
    const found = await Promise.race([
      looked.then((risk) => risk ?? `nothing that OpenClaw will delete within ${config.alerts.riskHours} h.`),
      pause(lookingMs, 'not known: looking took too long.', { signal: timer.signal }),
    ]);
    return found;
  } catch (error) {
    return `not known: ${describe(error)}`;
  } finally {
    timer.abort();
  }
}
