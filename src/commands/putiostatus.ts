import type { Context } from '../context.ts';
import { describe, exit, NexusError } from '../errors.ts';
import { formatAge, formatCount } from '../format.ts';
import { lastLook, type Look } from '../jobs/looks.ts';
import { openAccount } from '../jobs/putioaccount.ts';
import { openMailbox } from '../open.ts';
import type { Putio } from '../putio/api.ts';
import { mailboxIn, putioSource, shownCallback, withoutSecrets } from '../putio/callback.ts';
import { transferOf } from '../transfer.ts';
import { hasOurSecret } from './putiocallback.ts';
import { servesHere } from './webhookurl.ts';

/** How many days of put.io's history are looked at for calls that failed. */
const days = 7;

/** put.io may take so long over all that it is asked. */
const wholeMs = 60_000;

interface Standing {
  account?: string;
  /** put.io calls the mailbox of the agent that is asked about, or of any where none is. */
  registered: boolean;
  /** Whether the endpoint takes such calls; absent where the configuration is not the endpoint's. */
  verified?: boolean;
  callback?: string;
  agent?: string;
  /** The last callback that was received, and what is pending. */
  lastCallbackAt?: string;
  /** put.io's own warning that its calls fail. */
  callbackHasFailed: boolean;
  /** Of the last week, by put.io's history. */
  failedCallbacks?: { count: number; lastAt?: string; message?: string };
  look?: Look;
  /** What could not be told, and why. */
  unknown: string[];
}

/** Whom put.io calls, and whether that works. 3 when it does not. */
export async function status(context: Context): Promise<number> {
  const { config, env, output, now, signal } = context;
  const putio = await openAccount(config, env, { signal, now, wholeMs });
  const callback = await putio.callback();
  const named = callback === undefined ? undefined : mailboxIn(callback);
  const names = named?.source === putioSource && named.agent === (config.putio.agent ?? named.agent);
  const unknown: string[] = [];
  let verified: boolean | undefined;
  if (callback !== undefined && names && servesHere(config))
    await known({ unknown }, 'whether the endpoint takes its calls', async () => {
      verified = await hasOurSecret(context, callback);
    });
  const registered = names && verified !== false;
  const agent = config.putio.agent ?? (names ? named.agent : undefined);
  const { username, callbackHasFailed } = await putio.account();
  const standing: Standing = {
    ...(username === undefined ? {} : { account: username }),
    registered,
    ...(verified === undefined ? {} : { verified }),
    ...(callback === undefined ? {} : { callback: shownCallback(callback) }),
    ...(agent === undefined ? {} : { agent }),
    callbackHasFailed,
    unknown,
  };
  await known(standing, 'failed callbacks', async () => {
    standing.failedCallbacks = await failures(putio, now());
  });
  if (agent !== undefined) {
    await known(standing, 'the last callback', async () => {
      const at = await lastCallback(context, agent);
      if (at !== undefined) standing.lastCallbackAt = at;
    });
    await known(standing, 'the last look', async () => {
      standing.look = await lastLook(config, agent);
    });
  }
  const ok =
    registered && !callbackHasFailed && standing.look?.error === undefined && standing.unknown.length === 0;
  if (output.json) output.result({ command: 'putio status', ok, ...standing, schemaVersion: 1 });
  else show(context, standing);
  return ok ? exit.done : exit.someFailed;
}

async function known(
  { unknown }: Pick<Standing, 'unknown'>,
  what: string,
  ask: () => Promise<void>,
): Promise<void> {
  try {
    await ask();
  } catch (error) {
    if (!(error instanceof NexusError)) throw error;
    unknown.push(`${what}: ${describe(error)}`);
  }
}

async function failures(putio: Putio, now: Date): Promise<NonNullable<Standing['failedCallbacks']>> {
  const found: NonNullable<Standing['failedCallbacks']> = { count: 0 };
  for await (const { type, createdAt, message } of putio.events()) {
    const at = transferOf({ created_at: createdAt })['createdAt'];
    if (typeof at === 'string' && Date.parse(at) < now.getTime() - days * 86_400_000) break;
    if (type !== 'transfer_callback_error') continue;
    if (found.count++ > 0) continue;
    if (typeof at === 'string') found.lastAt = at;
    if (message !== undefined) found.message = withoutSecrets(message);
  }
  return found;
}

async function lastCallback(
  { config, output, signal, version }: Context,
  agent: string,
): Promise<string | undefined> {
  const mailbox = await openMailbox(config, signal, version, { say: output.debug });
  try {
    let last: string | undefined;
    for await (const { receivedAt, reconciled, replayOf } of mailbox.list({ agent, source: putioSource }))
      if (reconciled === undefined && replayOf === undefined && receivedAt > (last ?? '')) last = receivedAt;
    return last;
  } finally {
    await mailbox.close();
  }
}

function registration({ registered, verified, callback, agent }: Standing): string {
  const again = `\`nexus putio register --agent ${agent ?? 'ID'}\` where \`nexus serve\` is configured`;
  if (verified === false) return `no: the secret in the URL is none of ${agent ?? ''} here: run ${again}`;
  if (!registered) return `no: ${again}`;
  if (verified === true) return `yes, for ${agent ?? ''}`;
  return `names ${agent ?? ''} at ${new URL(callback ?? '').host}, not verified: that can be done there`;
}

function show({ output, now }: Context, standing: Standing): void {
  const { account, callback, agent, failedCallbacks, look, lastCallbackAt } = standing;
  const age = (at: string | undefined, never: string) =>
    at === undefined ? never : formatAge(Date.parse(at), now());
  const rows: string[][] = [
    ['account', account ?? 'unknown'],
    ['callback', callback ?? 'none'],
    ['registered', registration(standing)],
  ];
  if (agent !== undefined) {
    rows.push(['last callback', age(lastCallbackAt, 'none in 30 days')]);
    const found = look?.found === undefined ? '' : `, found ${formatCount(look.found)}`;
    rows.push(['last look', `${age(look?.triedAt, 'never on this host')}${found}`]);
  }
  if (failedCallbacks !== undefined) {
    const { count, lastAt, message } = failedCallbacks;
    const last =
      count === 0 ? '' : `, the last ${age(lastAt, '')}${message === undefined ? '' : `: ${message}`}`;
    rows.push(['failed callbacks', `${formatCount(count)} in ${days} days${last}`]);
  }
  output.table([{ title: 'PUT.IO' }, { title: '', align: 'left' }], rows);
  if (standing.callbackHasFailed)
    output.warn(
      'put.io warns that the callback has failed: look whether it reaches the endpoint, and run `nexus putio reconcile`.',
    );
  if (look?.error !== undefined) output.warn(`The last look failed: ${look.error}`);
  for (const sentence of standing.unknown) output.warn(`Not known: ${sentence}`);
}
