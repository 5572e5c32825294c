import { checkAgentId } from '../agents.ts';
import { loadConfig } from '../config.ts';
import type { Context } from '../context.ts';
import { describe, exitStatus, failedWith, NexusError } from '../errors.ts';
import { keepLook, lastLook, type Look } from '../jobs/looks.ts';
import { openAccount } from '../jobs/putioaccount.ts';
import { callbackUrl, mailboxIn, putioSource, shownCallback } from '../putio/callback.ts';
import { tokensPage } from '../putio/refusal.ts';
import { resolveSecret } from '../secrets.ts';
import { alone, checkCallback, editPutio, isOurs, rememberedAs } from './putiocallback.ts';
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
  const { base, reachable } = baseOf(config, options.base, '--endpoint-url');
  if (!reachable)
    throw new NexusError('usage', 'put.io cannot call this endpoint by any name that is known here.', {
      hint: 'Say with --endpoint-url, or `nexus config set serve.url URL`, what services outside call it by.',
    });
  const putio = await openAccount(config, env, { signal, now });
  return await alone(context, 'putio register', async () => {
    // A token that is good for nothing, or a place that is taken, leaves nothing behind.
    const before = await unlessForbidden(() => putio.callback());
    if (before instanceof NexusError)
      return refused(context, agent, await sourceUrl(context, base, agent), before);
    const foreign = before !== undefined && !(await isOurs(context, before, base));
    const mine = before === undefined || (!foreign && mailboxIn(before)?.agent === agent);
    if (!mine && !options.force) throw taken(before, foreign, agent);
    const url = await sourceUrl(context, base, agent);
    // Whatever was there before us, also when we had it for another agent since.
    if (foreign) await editPutio(context, { callbackBefore: before });
    // Before it is set: a crash after that would leave an older registration's place to look from.
    const goesOn = before === url || config.putio.agent === agent;
    const looked = await beginLooking(context, agent, goesOn);
    const why = before === url ? undefined : await whySettingFails(() => putio.setCallback(url));
    if (why !== undefined) {
      // It is as it was; of what did not answer nobody knows.
      if (!failedWith(why, 'unavailable')) {
        if (foreign) await editPutio(context, { callbackBefore: config.putio.callbackBefore });
        if (looked !== undefined) await keepLook(config, agent, looked);
      }
      if (failedWith(why, 'forbidden')) return refused(context, agent, url, why);
      throw why;
    }
    await checkCallback(
      putio,
      url,
      'Run this again; if that lasts, enter the URL at https://app.put.io/settings yourself.',
    );
    await editPutio(context, { agent, callbackSet: rememberedAs(url, base) });
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

/** What it answers, or the error that says that put.io does not let this token do it. */
async function unlessForbidden<T>(work: () => Promise<T>): Promise<T | NexusError> {
  try {
    return await work();
  } catch (error) {
    if (failedWith(error, 'forbidden')) return error;
    throw error;
  }
}

/** Answers why the callback could not be set. A token that could read it is known: it is not let. */
async function whySettingFails(work: () => Promise<void>): Promise<NexusError | undefined> {
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
        hint: `Another token may be allowed to: they are made at ${tokensPage}.`,
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

/**
 * The first look begins here: what finished before was nobody's to hear of. Answers what was noted before, where that
 * was changed.
 */
async function beginLooking(
  { config, now }: Context,
  agent: string,
  goesOn: boolean,
): Promise<Look | undefined> {
  const look = await lastLook(config, agent);
  if (look.lookedAt !== undefined && goesOn) return undefined;
  const at = now().toISOString();
  const { lookedAt: _, historyAt: __, called: ___, ...rest } = look;
  await keepLook(config, agent, { ...rest, lookedAt: at, beganAt: at });
  return look;
}
