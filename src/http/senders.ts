import type { FastifyRequest } from 'fastify';
import { checkAgentId } from '../agents.ts';
import { failedWith, NexusError } from '../errors.ts';
import type { Secret } from '../secrets.ts';
import type { Mailboxes, Source } from '../sources.ts';
import { authenticate, refuseMightyUrl, refuseOutsiders } from './auth.ts';
import { askedBy, type Routes } from './context.ts';
import { originOf } from './forwarded.ts';
import { queryText } from './query.ts';
import { type Head, verifyHead, verifySender } from './signatures/verify.ts';

/** Who a webhook is for and whom it says it is from. */
export interface Addressed {
  agentId: string;
  /** As the query has it; `undefined` when it has none, or several. */
  name: string | undefined;
  mailbox: Mailboxes[string] | undefined;
  /** What is configured of the sender. */
  source: Source | undefined;
}

/** A sender as far as the head of its request tells. */
export interface Sender {
  /** Whether it has proved itself; else `check` must see the body. */
  known: boolean;
  /** Throws `unauthorized` unless the body is the one that was signed. */
  check(body: Buffer): void;
}

export async function addressed(
  request: FastifyRequest<{ Params: { agentId: string } }>,
  mailboxes: Routes['mailboxes'],
): Promise<Addressed> {
  const { agentId } = request.params;
  const name = queryText(request, 'source');
  const mailbox = entryOf(await mailboxes(), agentId);
  return { agentId, name, mailbox, source: entryOf(mailbox?.sources, name) };
}

/**
 * Lets a sender in as its source is configured, or by a key where it is not. Everything that can be refused without
 * the body is refused here. All who fail are told the same, so that nobody learns which sources there are.
 */
export async function admit(
  request: FastifyRequest,
  { agentId, source }: Addressed,
  { keys, now, secretOf, proxies }: Pick<Routes, 'keys' | 'now' | 'secretOf' | 'proxies'>,
): Promise<Sender> {
  const known = await keys();
  const asked = askedBy(request);
  if (known.length === 0) refuseOutsiders(asked);
  else refuseMightyUrl(known, asked);
  if (source === undefined || source.verify === 'key') {
    const caller = told(request, () => authenticate(known, asked));
    request.caller = caller;
    caller.require(['webhook']);
    caller.require(['webhook'], checkAgentId(agentId));
    return { known: true, check: () => undefined };
  }
  const secrets = await resolved([source.secret ?? []].flat(), secretOf);
  const { headers, query } = request;
  // As the sender called it. Only ever compared with what was signed.
  const url = `${originOf(headers, proxies)}${request.url}`;
  const head: Head = { headers, query, url, now: now() };
  function checked<T>(check: () => T): T {
    try {
      return check();
    } catch (error) {
      // It may have been signed with the secret that cannot be had.
      if (failedWith(error, 'unauthorized') && secrets.missing !== undefined) throw secrets.missing;
      throw error;
    }
  }
  return {
    known: told(request, () => checked(() => verifyHead(source, secrets.found, head))),
    check: (body) =>
      told(request, () => checked(() => verifySender(source, secrets.found, { ...head, body }))),
  };
}

/** What every sender hears who has not proved itself. The log has the reason. */
export function notKnown(cause?: unknown): NexusError {
  return new NexusError(
    'unauthorized',
    'This sender has not proved itself: it must sign as its source is configured, or send a key for webhooks.',
    cause === undefined ? {} : { cause },
  );
}

function told<T>(request: FastifyRequest, check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!failedWith(error, 'unauthorized')) throw error;
    request.facts = { ...request.facts, reason: error.message };
    throw notKnown(error);
  }
}

/** The secrets that can be had; `missing` says that one cannot, which is not the sender's fault. */
export async function resolved(
  secrets: readonly Secret[],
  secretOf: Routes['secretOf'],
): Promise<{ found: string[]; missing: NexusError | undefined }> {
  const settled = await Promise.allSettled(secrets.map((secret) => secretOf(secret)));
  const failed = settled.find((one) => one.status === 'rejected');
  return {
    found: settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : [])),
    missing:
      failed === undefined
        ? undefined
        : new NexusError(
            'unavailable',
            "The endpoint lacks the secret of this source now; its operator's log says why.",
            { cause: failed.reason },
          ),
  };
}

function entryOf<T>(record: Record<string, T> | undefined, name: string | undefined): T | undefined {
  return record !== undefined && name !== undefined && Object.hasOwn(record, name) ? record[name] : undefined;
}
