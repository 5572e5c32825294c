import { loadConfig } from '../config.ts';
import type { Context } from '../context.ts';
import { openAccount } from '../jobs/putioaccount.ts';
import { putioSource, shownCallback } from '../putio/callback.ts';
import { alone, checkCallback, editPutio, isOurs } from './putiocallback.ts';

export interface UnregisterOptions {
  /** Also what was there before ours, where that cannot be restored. */
  forget: boolean;
}

/**
 * Restores the callback that was there before ours. One that is not ours by now is left alone, and what was there
 * before is kept until it is restored or to be forgotten.
 */
export async function unregister(context: Context, { forget }: UnregisterOptions): Promise<void> {
  const { config, configPath, env, output, now, signal } = context;
  const putio = await openAccount(config, env, { signal, now });
  await alone(context, 'putio unregister', async () => {
    const { callbackBefore: before, agent } = (await loadConfig({ env, file: configPath })).putio;
    const current = await putio.callback();
    const ours = current !== undefined && (await isOurs(context, current, undefined));
    if (ours) {
      await putio.setCallback(before);
      await checkCallback(putio, before, 'Run this again.');
    }
    const callback = ours ? before : current;
    const kept = before !== undefined && callback !== before && !forget;
    await editPutio(context, {
      agent: undefined,
      ...(kept ? {} : { callbackBefore: undefined, callbackSet: undefined }),
    });
    const is = callback === undefined ? {} : { callback: shownCallback(callback) };
    if (output.json)
      output.result({
        command: 'putio unregister',
        ok: true,
        restored: ours,
        ...is,
        ...(kept ? { kept: shownCallback(before) } : {}),
        schemaVersion: 1,
      });
    else {
      output.result(sentence(ours, callback));
      if (agent !== undefined)
        output.info(
          `Transfers that name our URL themselves still come: \`nexus config unset mailboxes.${agent}.sources.${putioSource}\` ends that. A host elsewhere that looks for missed ones is told with \`nexus config unset putio.agent\` there.`,
        );
    }
    if (kept)
      output.warn(
        `What was there before ours, ${shownCallback(before)}, is not restored and kept in ${configPath}: run \`nexus putio unregister --forget\` when it is not wanted any more.`,
      );
  });
}

function sentence(ours: boolean, callback: string | undefined): string {
  if (!ours)
    return callback === undefined
      ? 'put.io has no callback: nothing was to be done.'
      : `put.io's callback is ${shownCallback(callback)}, which is not ours: it was left alone.`;
  return callback === undefined
    ? 'put.io calls nobody any more, as before.'
    : `put.io calls ${shownCallback(callback)} again, as before.`;
}
