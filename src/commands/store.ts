import type { Config } from '../config.ts';
import { type Context, stoppedBy } from '../context.ts';
import { exit, NexusError } from '../errors.ts';
import { formatBytes, formatCount, formatItems } from '../format.ts';
import { isFresh, openStore, storePlace } from '../open.ts';
import { checkStore, type Step } from '../storecheck.ts';
import { type Copied, copyStore } from '../storecopy.ts';
import type { Store } from '../stores/store.ts';

type Kind = 'local' | 'azure';

/** Tries all that Nexus does with its store: 0 when all of it works, else 3. */
export async function check(context: Context): Promise<number> {
  const { config, output } = context;
  const store = await openStore(config);
  let steps: Step[];
  try {
    steps = await checkStore(store);
  } finally {
    await store.close();
  }
  const failed = steps.filter(({ ok }) => !ok);
  const place = storePlace(config);
  if (output.json)
    output.result({ command: 'store check', ok: failed.length === 0, store: place, steps, schemaVersion: 1 });
  else {
    for (const { place, step, error, missing } of failed)
      output.error(
        `${place}, ${step}: ${missing === undefined ? '' : `missing is the permission to ${missing}. `}${error}`,
      );
    const tried = `${formatCount(steps.length)} things tried`;
    output.result(
      failed.length === 0
        ? `All is well with ${place}: ${tried}.`
        : `${place}: ${tried}, ${formatCount(failed.length)} failed.`,
    );
  }
  return failed.length === 0 ? exit.done : exit.someFailed;
}

export interface CopyOptions {
  from: Kind;
  to: Kind;
  verify: boolean;
}

/** Copies one store to another: 0 when everything is there and equal, 3 when some of it is not. */
export async function copy(context: Context, { from, to, verify }: CopyOptions): Promise<number> {
  const { config, output, signal, now } = context;
  if (from === to)
    throw new NexusError('usage', `--from and --to are both ${from}.`, { hint: 'Copy to the other one.' });
  const source: Config = { ...config, endpoint: undefined, store: { ...config.store, kind: from } };
  if (await isFresh(source))
    throw new NexusError('not_found', `There is no store in ${storePlace(source)}.`, {
      hint: 'Check dataDir or `store` in the configuration, and that this is the user who ran nexus before.',
    });
  const began = now().getTime();
  const line = output.progress();
  const opened: Store[] = [];
  let copied: Copied;
  try {
    const [old, next] = [await openStore(config, from), await openStore(config, to)];
    opened.push(old, next);
    copied = await copyStore(old, next, {
      concurrency: config.concurrency,
      verify,
      signal,
      progress: ({ blobs, blobsTotal, bytes, bytesTotal, rows }) =>
        line.update(
          `copy: ${formatCount(blobs)} of ${formatItems(blobsTotal, 'blob')}, ` +
            `${formatBytes(bytes)} of ${formatBytes(bytesTotal)}, ${formatItems(rows, 'row')}`,
        ),
    });
  } finally {
    line.stop();
    await Promise.all(opened.map((store) => store.close()));
  }
  const stopped = stoppedBy(signal);
  const ok = copied.failed.length === 0 && stopped === undefined;
  const durationMs = now().getTime() - began;
  if (output.json)
    output.result({
      command: 'store copy',
      ok,
      from,
      to,
      ...copied,
      durationMs,
      schemaVersion: 1,
      ...(stopped === undefined ? {} : { interrupted: stopped }),
    });
  else {
    for (const { item, reason } of copied.failed) output.error(`${item}: ${reason}`, { item });
    const { blobs, rows } = copied;
    output.result(
      `copy: ${formatCount(blobs.copied)} of ${formatItems(blobs.found, 'blob')} and ` +
        `${formatCount(rows.copied)} of ${formatItems(rows.found, 'row')} copied (${formatBytes(copied.bytes)}), ` +
        `${formatCount(blobs.already)} and ${formatCount(rows.already + rows.kept)} already there, ` +
        `${formatCount(copied.failed.length)} failed${stopped === undefined ? '' : `, stopped by ${stopped}`}.`,
    );
  }
  return copied.failed.length === 0 ? exit.done : exit.someFailed;
}
