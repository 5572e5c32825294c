import { checkAgentId } from '../agents.ts';
import { type Config, isEndpoint, loadConfig } from '../config.ts';
import { shellWord } from '../systemd/shellword.ts';
import type { Context } from '../context.ts';
import { failedWith, NexusError } from '../errors.ts';
import { resolveSecret } from '../secrets.ts';
import type { Source, Verification } from '../sources.ts';
import { wayNamed, wayOf, ways } from './senders.ts';
import { layOut } from '../table.ts';
import { type Said, settingOf, writeKey, writeSource } from './sourceentry.ts';

export interface UrlOptions extends Said {
  /** How the sender proves itself; else as the source's name tells, else by a key in the URL. */
  verify: string | undefined;
  /** What services outside call the endpoint by. */
  base: string | undefined;
}

/** What is to be entered at the sender. */
interface Printed {
  url: string;
  verify: Verification;
  /** The endpoint takes what this sender sends. */
  configured: boolean;
  /** The header that the sender proves itself in. */
  header?: string;
  /** What the sender is told: the secret that it proves itself with, or Meta's verify token. */
  secret?: string;
}

/**
 * Prints the URL to enter at a sender and what else to enter there. A source that is not configured yet gets its
 * entry in the configuration file, with a secret of ours or the one that is said, or a key of its own. Where the
 * sender makes the secret and it is not said, nothing is written, and what to run next is said.
 */
export async function url(context: Context, options: UrlOptions): Promise<void> {
  const { agent, source } = options;
  checkAgentId(agent);
  if (
    source === '' ||
    source === '__proto__' ||
    source.length > 100 ||
    /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u.test(source)
  )
    throw new NexusError(
      'usage',
      'The name of a source has 1 to 100 characters, none of them a control character, and is not __proto__.',
    );
  refuseElsewhere(context.config);
  const known = sourceIn(context.config, options);
  const verify = chosenWay(options, known);
  const { base, reachable } = baseOf(context.config, options.base);
  const address = `${base}/api/webhook/${agent}?source=${encodeURIComponent(source)}`;
  const printed =
    verify === 'key'
      ? { url: `${address}&code=${await writeKey(context, options)}`, verify, configured: true }
      : await signed(context, options, verify, known, address, reachable);
  if (context.output.json) {
    const next = printed.configured ? {} : { next: nextCommand(options) };
    context.output.result({
      command: 'webhooks url',
      ok: true,
      agent,
      source,
      ...printed,
      ...next,
      schemaVersion: 1,
    });
  } else show(context, options, printed);
  await warn(context, options, printed, reachable);
}

/** On a host of an endpoint elsewhere the configuration is not the one that the endpoint reads. */
export function servesHere({ endpoint, keys, mailboxes, serve }: Config): boolean {
  const serves = keys.length > 0 || Object.keys(mailboxes).length > 0 || serve.url !== undefined;
  return endpoint === undefined || serves;
}

export function refuseElsewhere(config: Config): void {
  if (servesHere(config)) return;
  throw new NexusError(
    'usage',
    `This host uses the endpoint ${config.endpoint ?? ''}, and who may send to it is configured on that machine.`,
    { hint: 'Run `nexus webhooks url` there.' },
  );
}

export function sourceIn(
  { mailboxes }: Config,
  { agent, source }: Pick<Said, 'agent' | 'source'>,
): Source | undefined {
  const own = <T>(record: Record<string, T>, name: string) =>
    Object.entries(record).find(([key]) => key === name)?.[1];
  return own(own(mailboxes, agent)?.sources ?? {}, source);
}

function chosenWay(options: UrlOptions, known: Source | undefined): Verification {
  const { agent, source, header, secretFrom } = options;
  const said = options.verify === undefined ? undefined : wayNamed(options.verify);
  if (known !== undefined && said !== undefined && said !== known.verify)
    throw new NexusError(
      'usage',
      `The source ${JSON.stringify(source)} of ${agent} proves itself by ${known.verify} already.`,
      { hint: `For another way run \`nexus config unset ${settingOf(options)}\` and then this again.` },
    );
  const way = known?.verify ?? said ?? wayOf(source) ?? 'key';
  if (secretFrom !== undefined && ways[way].secret === 'none')
    throw new NexusError('usage', `A source that proves itself by ${way} has no secret.`, {
      hint: 'Leave --secret-from out, or say with --verify how the sender proves itself.',
    });
  if (header !== undefined && (way !== 'hmac' || known !== undefined))
    throw new NexusError('usage', '--header is for a new source that proves itself by hmac.');
  if (header === undefined && way === 'hmac' && known === undefined)
    throw new NexusError('usage', 'Say with --header which header the signature is in.', {
      hint: 'How it is made can then be said below `hmac` with `nexus config set`.',
    });
  return way;
}

export function baseOf(
  { endpoint, serve }: Config,
  said: string | undefined,
  flag = '--url',
): { base: string; reachable: boolean } {
  if (said !== undefined && !isEndpoint(said))
    throw new NexusError(
      'usage',
      `${flag} must be an http or https URL without user, query or fragment, like https://nexus.example.com.`,
    );
  const outside = said ?? serve.url ?? endpoint;
  if (outside !== undefined) return { base: outside.replace(/\/+$/, ''), reachable: true };
  const host = serve.host.includes(':') ? `[${serve.host}]` : serve.host;
  return { base: `http://${host}:${serve.port}`, reachable: false };
}

async function signed(
  context: Context,
  options: UrlOptions,
  verify: Verification,
  known: Source | undefined,
  address: string,
  reachable: boolean,
): Promise<Printed> {
  const way = ways[verify];
  const header = options.header ?? known?.hmac?.header ?? way.header;
  const common = { verify, ...(header === undefined ? {} : { header }) };
  const missing = known === undefined && way.secret === 'theirs' && options.secretFrom === undefined;
  if (missing) return { url: address, configured: false, ...common };
  if (known === undefined || options.secretFrom !== undefined)
    await writeSource(context, options, verify, known, reachable ? address : undefined);
  const { env, configPath } = context;
  const source = sourceIn(await loadConfig({ env, file: configPath }), options);
  const proof = await resolved(context, source?.secret);
  const told = verify === 'meta' ? await resolved(context, source?.verifyToken) : proof;
  const secret = way.secretField === undefined ? undefined : told;
  return {
    url: source?.url ?? address,
    configured: true,
    ...common,
    ...(secret === undefined ? {} : { secret }),
  };
}

/** The secret, or the first of several. One that is not to be had here may be where `nexus serve` runs. */
async function resolved({ env, output }: Context, secret: Source['secret']): Promise<string | undefined> {
  const first = Array.isArray(secret) ? secret[0] : secret;
  if (first === undefined) return undefined;
  try {
    return await resolveSecret(first, env);
  } catch (error) {
    if (!failedWith(error, 'config')) throw error;
    output.warn(`${error.message} It must be there where \`nexus serve\` runs.`);
    return undefined;
  }
}

/** The URL alone on the first line, so that a script can take it; then what is entered beside it. */
function show({ output }: Context, options: UrlOptions, printed: Printed): void {
  const { url, verify, configured, header, secret } = printed;
  const way = ways[verify];
  const entered = [
    [way.urlField, 'the URL above'],
    ...(way.secretField === undefined || secret === undefined ? [] : [[way.secretField, secret]]),
    ...(verify === 'secret' && secret !== undefined
      ? [['or, where it can set no header', `${url}&secret=${encodeURIComponent(secret)}`]]
      : []),
    ...(verify === 'hmac' && header !== undefined ? [['Header of the signature', header]] : []),
    ...way.others.map((other) => [...other]),
  ];
  output.result(url);
  output.result('');
  // Never cut to the width of a terminal: half a secret is none.
  output.result(
    layOut([{ title: `AT ${way.sender.toUpperCase()}` }, { title: 'ENTER' }], entered).join('\n'),
  );
  if (configured) return;
  output.info(
    `Not ready yet: ${way.sender} makes the secret, and until it is said here what comes is refused. It is ${way.found ?? 'shown by the sender'}. Then run \`${nextCommand(options)}\`.`,
  );
}

function nextCommand({ agent, source, verify, base }: UrlOptions): string {
  const words = ['nexus', 'webhooks', 'url', '--agent', agent, '--source', source];
  if (verify !== undefined) words.push('--verify', verify);
  if (base !== undefined) words.push('--url', base);
  return [...words, '--secret-from', '-'].map(shellWord).join(' ');
}

async function warn(
  { config, configPath, env, output }: Context,
  { agent }: UrlOptions,
  { verify, secret }: Printed,
  reachable: boolean,
): Promise<void> {
  const proof = verify === 'key' ? 'The key in this URL, which is shown this once,' : 'This secret';
  if (verify === 'key' || secret !== undefined)
    output.warn(`${proof} lets whoever has it send to ${agent}: show it to nobody but the sender.`);
  if (verify === 'none')
    output.warn(`Nobody is asked for a proof: whoever knows the URL can send to ${agent}.`);
  const { keys } = await loadConfig({ env, file: configPath });
  if (!reachable)
    output.warn(
      'Services outside do not reach this URL: say with --url, or `nexus config set serve.url URL`, what they call the endpoint by.',
    );
  if (keys.length === 0) warnOfNoKey(output);
  const as = config.agents[agent]?.as;
  if (as !== undefined && as !== agent)
    output.warn(`OpenClaw's agent ${agent} on this host is ${as} in Nexus, and its mailbox that of ${as}.`);
}

/** Nobody from outside is let in then, whatever they prove. */
export function warnOfNoKey(output: Context['output']): void {
  output.warn(
    'There is no key, and without any `nexus serve` takes only what this machine itself sends: run `nexus keys add NAME`.',
  );
}
