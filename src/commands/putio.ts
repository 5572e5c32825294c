import { checkAgentId } from '../agents.ts';
import { checkSettings, loadConfig } from '../config.ts';
import { editSettings, type Settings } from '../configfile.ts';
import type { Context } from '../context.ts';
import { describe, exitStatus, failedWith, NexusError } from '../errors.ts';
import { underLock } from '../jobs/agentlock.ts';
import { keepLook, lastLook } from '../jobs/looks.ts';
import { openAccount } from '../jobs/putioaccount.ts';
import { callbackUrl, mailboxIn, putioSource, shownCallback } from '../putio/callback.ts';
import { resolveSecret } from '../secrets.ts';
import { withValue } from '../settings.ts';
import { writeSource } from './sourceentry.ts';
import { baseOf, refuseElsewhere, sourceIn, warnOfNoKey } from './webhookurl.ts';

export interface RegisterOptions {
  /** Its id in Nexus. */
  agent: string;
  /** What put.io calls the endpoint by. */
  base: string | undefined;
  /** In the place of somebody else's callback. */
  force: boolean;
}

/**
 * Makes the source, sets the account's callback to it, and reads it back. In this order, so that a crash anywhere is
 * mended by running it again: the source → what was there before → the callback → whose it is.
 */
export async function register(context: Context, options: RegisterOptions): Promise<number | void> {
  const { config, configPath, env, output, now, signal } = context;
  const { agent } = options;
  checkAgentId(agent);
  refuseElsewhere(config);
  const { base, reachable } = baseOf(config, options.base);
  if (!reachable)
    throw new NexusError('usage', 'put.io cannot call this endpoint by any name that is known here.', {
      hint: 'Say with --endpoint-url, or `nexus config set serve.url URL`, what services outside call it by.',
    });
  const putio = await openAccount(config, env, { signal, now });
  return await alone(context, 'putio register', async () => {
    // A token that is good for nothing, or a place that is taken, leaves nothing behind.
    const before = await allowed(() => putio.callback());
    if (before instanceof NexusError)
      return refused(context, agent, await sourceUrl(context, base, agent), before);
    const foreign = before !== undefined && !(await isOurs(context, before, base));
    const mine = before === undefined || (!foreign && mailboxIn(before)?.agent === agent);
    if (!mine && !options.force) throw taken(before, foreign, agent);
    const url = await sourceUrl(context, base, agent);
    // Whatever was there before us, also when we had it for another agent since.
    if (foreign) await editPutio(context, { before });
    else if (before === undefined) await editPutio(context, { before: undefined });
    const set = before === url ? undefined : await settingOf(() => putio.setCallback(url));
    if (set !== undefined) {
      // It is as it was; of what did not answer nobody knows.
      if (foreign && !failedWith(set, 'unavailable')) await editPutio(context, { before: undefined });
      if (failedWith(set, 'forbidden')) return refused(context, agent, url, set);
      throw set;
    }
    const read = await putio.callback();
    if (read !== url)
      throw new NexusError(
        'unavailable',
        `put.io took the callback, and says that it has ${read === undefined ? 'none' : shownCallback(read)}.`,
        { hint: 'Run this again; if that lasts, enter the URL at https://app.put.io/settings yourself.' },
      );
    await beginLooking(context, agent, before !== url);
    await editPutio(context, { agent });
    const shown = shownCallback(url);
    const replaced = before === undefined || before === url ? {} : { replaced: shownCallback(before) };
    if (output.json)
      output.result({
        command: 'putio register',
        ok: true,
        agent,
        callback: shown,
        already: before === url,
        ...replaced,
        schemaVersion: 1,
      });
    else {
      const how = before === url ? 'put.io calls it already' : 'put.io calls it from now on';
      output.result(`${shown}: ${how}, for every transfer that finishes.`);
      if (foreign)
        output.info(
          `Before it was ${shownCallback(before)}: \`nexus putio unregister\` restores that from ${configPath}.`,
        );
      output.info('What it sends is delivered to the agent by `nexus pull-webhooks`.');
    }
    if (config.keys.length === 0) warnOfNoKey(output);
    return undefined;
  });
}

/** Restores the callback that was there before ours. One that is not ours by now is left alone. */
export async function unregister(context: Context): Promise<void> {
  const { config, env, output, now, signal } = context;
  const putio = await openAccount(config, env, { signal, now });
  await alone(context, 'putio unregister', async () => {
    const { before, agent } = (await loadConfig({ env, file: context.configPath })).putio;
    const current = await putio.callback();
    const ours = current !== undefined && (await isOurs(context, current, undefined));
    if (ours) {
      await putio.setCallback(before);
      const after = await putio.callback();
      if (after !== before)
        throw new NexusError(
          'unavailable',
          `put.io took it, and says that its callback is ${after === undefined ? 'none' : shownCallback(after)}.`,
          { hint: 'Run this again.' },
        );
    }
    await editPutio(context, { agent: undefined, before: undefined });
    const callback = ours ? before : current;
    const is = callback === undefined ? {} : { callback: shownCallback(callback) };
    if (output.json) {
      output.result({ command: 'putio unregister', ok: true, restored: ours, ...is, schemaVersion: 1 });
      return;
    }
    if (!ours)
      output.result(
        current === undefined
          ? 'put.io has no callback: nothing was to be done.'
          : `put.io's callback is ${shownCallback(current)}, which is not ours: it was left alone.`,
      );
    else
      output.result(
        before === undefined
          ? 'put.io calls nobody any more, as before.'
          : `put.io calls ${shownCallback(before)} again, as before.`,
      );
    if (agent !== undefined)
      output.info(
        `Transfers that name our URL themselves still come: \`nexus config unset mailboxes.${agent}.sources.${putioSource}\` ends that.`,
      );
  });
}

/** One at a time on this machine: what was there before is read, kept and replaced in three steps. */
async function alone<T>({ config }: Context, name: string, work: () => Promise<T>): Promise<T> {
  let done: { value: T } | undefined;
  const busy = await underLock(config, 'putio', name, async () => {
    done = { value: await work() };
  });
  if (done === undefined) throw new NexusError('busy', `put.io is being seen to already. ${busy ?? ''}`);
  return done.value;
}

/** The URL of the agent's source, which is made when there is none. */
async function sourceUrl(context: Context, base: string, agent: string): Promise<string> {
  const { configPath, env } = context;
  const said = { agent, source: putioSource, secretFrom: undefined, header: undefined };
  const known = sourceIn(context.config, said);
  if (known !== undefined && known.verify !== 'secret')
    throw new NexusError(
      'conflict',
      `The source ${putioSource} of ${agent} proves itself by ${known.verify}, and put.io can only by a secret in the URL.`,
      { hint: `Run \`nexus config unset mailboxes.${agent}.sources.${putioSource}\` and then this again.` },
    );
  if (known === undefined) await writeSource(context, said, 'secret', undefined, undefined);
  const source = sourceIn(await loadConfig({ env, file: configPath }), said);
  const [secret] = [source?.secret ?? []].flat();
  if (secret === undefined) throw new NexusError('busy', 'The source was taken out just now.');
  return callbackUrl(base, agent, await resolveSecret(secret, env));
}

/** Whether a callback is one that we set: at this endpoint, or with a secret of a source here. */
async function isOurs(
  { configPath, env }: Context,
  callback: string,
  base: string | undefined,
): Promise<boolean> {
  const named = mailboxIn(callback);
  if (named?.source !== putioSource) return false;
  const config = await loadConfig({ env, file: configPath });
  if (named.base === (base ?? config.serve.url?.replace(/\/+$/, ''))) return true;
  const secret = new URL(callback).searchParams.get('secret');
  for (const one of [sourceIn(config, named)?.secret ?? []].flat())
    if (secret !== null && (await resolveSecret(one, env)) === secret) return true;
  return false;
}

function taken(callback: string, foreign: boolean, agent: string): NexusError {
  const other = mailboxIn(callback)?.agent;
  const perTransfer = `for some transfers alone, give \`callback_url\` of POST /v2/transfers/add the URL that \`nexus webhooks url --agent ${agent} --source ${putioSource} --verify secret\` prints with its secret`;
  return foreign
    ? new NexusError(
        'conflict',
        `put.io's callback is somebody else's: ${shownCallback(callback)}. The account has only one, so nothing was changed.`,
        {
          hint: `Say --force to replace it, and \`nexus putio unregister\` restores it; or, ${perTransfer}.`,
        },
      )
    : new NexusError(
        'conflict',
        `put.io's callback goes to the agent ${other ?? ''} here. The account has only one, so nothing was changed.`,
        { hint: `Say --force to give it to ${agent}; or, ${perTransfer}.` },
      );
}

/** The answer, or put.io's refusal to let this token do it. */
async function allowed<T>(work: () => Promise<T>): Promise<T | NexusError> {
  try {
    return await work();
  } catch (error) {
    if (failedWith(error, 'forbidden')) return error;
    throw error;
  }
}

/** What was wrong with setting the callback. A token that could read it is known: it is not let. */
async function settingOf(work: () => Promise<void>): Promise<NexusError | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (!(error instanceof NexusError)) throw error;
    if (error.code !== 'unauthorized') return error;
    return new NexusError(
      'forbidden',
      "put.io does not let this token change the account's callback (401).",
      {
        cause: error,
      },
    );
  }
}

/** The account's setting is closed to this token: each transfer can still name the callback. */
function refused({ output }: Context, agent: string, url: string, error: NexusError): number {
  const { code } = error;
  const how =
    'Each transfer can name it instead: give it to POST /v2/transfers/add as `callback_url`. Its secret lets whoever has it send to the agent.';
  if (output.json)
    output.result({
      command: 'putio register',
      ok: false,
      agent,
      url,
      error: { code, message: describe(error) },
      schemaVersion: 1,
    });
  else output.result(url);
  output.error(describe(error));
  output.info(how);
  return exitStatus(error);
}

async function editPutio({ configPath, env }: Context, changes: Settings): Promise<void> {
  await editSettings(configPath, (settings) => {
    let written = settings;
    for (const [name, value] of Object.entries(changes)) written = withValue(written, ['putio', name], value);
    checkSettings(written, env);
    return written;
  });
}

/** The first look begins here: what finished before was nobody's to hear of. */
async function beginLooking({ config, now }: Context, agent: string, isNew: boolean): Promise<void> {
  const look = await lastLook(config, agent);
  const follows = config.putio.agent === agent || !isNew;
  if (look.lookedAt !== undefined && follows) return;
  const at = now().toISOString();
  await keepLook(config, agent, { ...look, lookedAt: at, beganAt: at });
}
