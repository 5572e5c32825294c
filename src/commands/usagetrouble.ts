import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Alerts, Notice } from '../alerts.ts';
import type { Context } from '../context.ts';
import { isAbsent } from '../diskerrors.ts';
import { describe } from '../errors.ts';
import { codeIn } from '../logline.ts';

/** What is in the way of the index of usage on this machine, and since when. */
export interface Trouble {
  error: unknown;
  /** Not known where that cannot be kept, for which a full disk mostly has room. */
  since: Date | undefined;
}

/** What goes on for so long is told. */
const toldAfterMs = 3_600_000;

/**
 * Brings the index up to what is stored, and answers what is in the way of it. Since when is in a file: who looks once
 * and ends, as from a timer, knows it too.
 */
export async function troubleOf(
  { config, now, output, signal }: Pick<Context, 'config' | 'now' | 'output' | 'signal'>,
  catchUp: () => Promise<unknown>,
): Promise<Trouble | undefined> {
  const file = path.join(config.dataDir, 'host', 'usage-fails-since');
  try {
    await catchUp();
  } catch (error) {
    signal.throwIfAborted();
    return { error, since: await sinceIn(file, now()).catch(warn) };
  }
  await rm(file, { force: true }).catch(warn);
  return undefined;

  function warn(error: unknown): undefined {
    output.warn(`Since when usage cannot be followed is not kept: ${describe(error)}`, {
      code: codeIn(error),
    });
  }
}

async function sinceIn(file: string, now: Date): Promise<Date> {
  try {
    const since = new Date((await readFile(file, 'utf8')).trim());
    if (since <= now) return since;
  } catch (error) {
    if (!isAbsent(error)) throw error;
  }
  // Anew too where a clock was wrong, or a crash left nothing in it.
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  await writeFile(file, `${now.toISOString()}\n`, { mode: 0o600 });
  return now;
}

/** Raises the alert of what has been in the way for long, once; ends it where nothing is. Sends nothing. */
export async function tellTrouble(
  alerts: Alerts,
  trouble: Trouble | undefined,
  { host, now, channels }: { host: string; now: Date; channels: readonly string[] },
): Promise<Notice | undefined> {
  // Each machine has an index of its own.
  const about = { host, subject: `usage/${host}`, at: now.toISOString() };
  if (trouble === undefined) {
    await alerts.recover({
      ...about,
      event: 'recovered',
      title: `Nexus on ${host}: usage is followed again.`,
    });
    return undefined;
  }
  const { error, since } = trouble;
  if (since !== undefined && now.getTime() - since.getTime() < toldAfterMs) return undefined;
  const notice: Notice = {
    ...about,
    event: 'failed',
    title: `Nexus on ${host}: usage cannot be followed, and budgets go by what was read before.`,
    error: describe(error),
    ...(since === undefined ? {} : { since: since.toISOString() }),
    next: `On ${host}, run \`nexus usage\` to see it fail.`,
  };
  return (await alerts.raise(notice, channels)) ? notice : undefined;
}
