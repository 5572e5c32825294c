import { existsSync } from 'node:fs';
import type { Config } from '../config.ts';
import { NexusError } from '../errors.ts';
import { formatAge, formatItems } from '../format.ts';
import { type Batch, deliveriesFile, openDeliveries } from '../jobs/deliveries.ts';
import { aliasOf } from '../jobs/choosing.ts';
import type { Mailbox, MailboxStanding } from '../mailbox.ts';

/** Something that is not as it should be, and what to do about it. */
export interface Problem {
  problem: string;
  next: string;
  /** Of what no job can say of itself: what `--alert` raises it as, like `silent/upload`. */
  subject?: string;
  /** Of the same: since when, ISO 8601, where that is known. */
  since?: string;
  /** Of what Nexus itself answered, or could not: that of its error. */
  code?: string;
}

/** How the mail of one agent of this host stands. */
export interface AgentMail extends Omit<MailboxStanding, 'agent'> {
  /** Its id in OpenClaw, and in Nexus. */
  agent: string;
  as: string;
  /** Messages about what is in its inbox: to be sent, sent and not seen answered, given up. */
  untold: number;
  admitted: number;
  failed: number;
}

export interface Mail {
  agents: AgentMail[];
  problems: Problem[];
}

/** Items that wait longer than this mean that pulls do not run or do not get through. */
const lagMs = 3_600_000;

/** Whether mail is pulled to this host, or received on it, so that the mailboxes are worth asking. */
export function usesMail(config: Config): boolean {
  return ownsStore(config) || existsSync(deliveriesFile(config)) || Object.keys(config.mailboxes).length > 0;
}

/** The mailboxes are here, of whatever agents and hosts: what nobody pulls can be seen nowhere else. */
function ownsStore(config: Config): boolean {
  return config.endpoint === undefined;
}

/**
 * How the mail of this host's agents (by their ids in OpenClaw) stands; those without any are left out. `open` is
 * `undefined` where Nexus is out of reach. On the machine of the store, mail of other agents and for other hosts that
 * nobody pulls is a problem too. Changes nothing.
 */
export async function mailOf(
  config: Config,
  agents: readonly string[],
  open: (() => Promise<Mailbox>) | undefined,
  now: number,
): Promise<Mail> {
  const problems: Problem[] = [];
  const batches = batchesIn(config, problems);
  const standings = open === undefined ? [] : await standingsOf(config, agents, open, problems);
  const mail: AgentMail[] = agents.map((agent) => {
    const as = aliasOf(config, agent);
    const standing = standings.find((one) => one.agent === as);
    const own = batches.filter((batch) => batch.agent === agent);
    const [untold, admitted, failed] = [own.filter(isUntold), own.filter(isAdmitted), unanswered(own)];
    problems.push(
      ...pendingProblems(agent, config, standing, now),
      ...tellingProblems(agent, untold, admitted, failed),
    );
    return {
      pending: 0,
      bytes: 0,
      ...standing,
      agent,
      as,
      untold: untold.length,
      admitted: admitted.length,
      failed: failed.length,
    };
  });
  problems.push(...strandedProblems(config, mail, standings, now));
  const has = ({ pending, host, untold, admitted, failed }: AgentMail) =>
    pending + untold + admitted + failed > 0 || host !== undefined;
  return { agents: mail.filter(has), problems };
}

function batchesIn(config: Config, problems: Problem[]): Batch[] {
  const file = deliveriesFile(config);
  if (!existsSync(file)) return [];
  try {
    const deliveries = openDeliveries(file);
    try {
      return deliveries.batches(['open', 'untold', 'admitted', 'done', 'failed']);
    } finally {
      deliveries.close();
    }
  } catch (error) {
    if (!(error instanceof NexusError)) throw error;
    problems.push({ problem: error.message, next: error.hint ?? `Look at ${file}.` });
    return [];
  }
}

async function standingsOf(
  config: Config,
  agents: readonly string[],
  open: () => Promise<Mailbox>,
  problems: Problem[],
): Promise<MailboxStanding[]> {
  const all = ownsStore(config);
  if (agents.length === 0 && !all) return [];
  try {
    const mailbox = await open();
    try {
      return await mailbox.standing(all ? undefined : agents.map((agent) => aliasOf(config, agent)));
    } finally {
      await mailbox.close();
    }
  } catch (error) {
    if (!(error instanceof NexusError)) throw error;
    const refused = error.code === 'unauthorized' || error.code === 'forbidden';
    problems.push({
      problem: `How the mailboxes stand cannot be seen: ${error.message}`,
      next: refused
        ? 'Give this host a key with the scopes pull and read: `nexus keys add` at the endpoint.'
        : (error.hint ?? 'Run `nexus status` again.'),
    });
    return [];
  }
}

function isUntold({ state }: Batch): boolean {
  return state === 'open' || state === 'untold';
}

function isAdmitted({ state }: Batch): boolean {
  return state === 'admitted';
}

/** Given up, and the agent has answered no later one: then it can be told again, and has the older files too. */
function unanswered(batches: readonly Batch[]): Batch[] {
  const answered = batches.filter(({ state }) => state === 'done').map(({ createdAt }) => createdAt);
  const latest = Math.max(0, ...answered);
  return batches.filter(({ state, createdAt }) => state === 'failed' && createdAt > latest);
}

function pendingProblems(
  agent: string,
  config: Config,
  standing: MailboxStanding | undefined,
  now: number,
): Problem[] {
  if (standing?.oldestAt === undefined || standing.pending === 0) return [];
  const { pending, oldestAt, host } = standing;
  // Another host's mail is for that host to say, or for the machine of the store.
  if ((host !== undefined && host !== config.host) || now - Date.parse(oldestAt) < lagMs) return [];
  return [
    {
      problem: `${agent}: ${formatItems(pending, 'webhook')} pending, the oldest from ${formatAge(Date.parse(oldestAt), now)}.`,
      next: 'Run `nexus pull-webhooks`.',
    },
  ];
}

/** Mail that waits for another host, or for nobody: an agent's name that is wrong, a host that is no more. */
function strandedProblems(
  config: Config,
  mail: readonly AgentMail[],
  standings: readonly MailboxStanding[],
  now: number,
): Problem[] {
  if (!ownsStore(config)) return [];
  const here = new Set(mail.map(({ as }) => as));
  return standings.flatMap(({ agent, pending, oldestAt, host }) => {
    if (pending === 0 || oldestAt === undefined || now - Date.parse(oldestAt) < lagMs) return [];
    const mine = here.has(agent) && (host === undefined || host === config.host);
    if (mine) return [];
    const whose =
      host === undefined ? 'and no host has ever pulled it' : `and the host ${host} does not pull it`;
    const next =
      host === undefined
        ? `Run \`nexus pull-webhooks\` where the agent runs; if ${agent} is no agent's name, correct it at the sender and \`nexus webhooks drop --agent ${agent}\`.`
        : `Run \`nexus pull-webhooks\` on ${host}, or \`nexus webhooks claim --agent ${agent}\` on the host that has the agent now.`;
    const oldest = formatAge(Date.parse(oldestAt), now);
    return [
      {
        problem: `${agent}: ${formatItems(pending, 'webhook')} pending, the oldest from ${oldest}, ${whose}.`,
        next,
      },
    ];
  });
}

function tellingProblems(
  agent: string,
  untold: readonly Batch[],
  admitted: readonly Batch[],
  failed: readonly Batch[],
): Problem[] {
  // One that is being sent, or is to be sent, without an error is none.
  const refused = untold.findLast(({ lastError }) => lastError !== undefined);
  const unwell = admitted.findLast(({ lastError }) => lastError !== undefined);
  const problems: Problem[] = [];
  if (refused !== undefined)
    problems.push({
      problem: `${agent} could not be told of its webhooks: ${reason(refused)}`,
      next: 'They are in its inbox; the next `nexus pull-webhooks` tries again.',
    });
  if (unwell !== undefined)
    problems.push({
      problem: `${agent} has not answered a message about its webhooks: ${reason(unwell)}`,
      next: 'It is told again in a while, by the next `nexus pull-webhooks` after that.',
    });
  const given = failed.at(-1);
  if (given !== undefined)
    problems.push({
      problem: `${agent} did not answer ${formatItems(failed.length, 'message')} about its webhooks, sent ${formatItems(given.attempts, 'time')}: ${reason(given)}`,
      next: 'They are in its inbox, inbox/webhooks in its workspace: look at its session in OpenClaw, and tell it yourself.',
    });
  return problems;
}

function reason({ lastError }: Batch): string {
  return lastError === undefined
    ? 'no answer was seen.'
    : /[.!?]$/.test(lastError)
      ? lastError
      : `${lastError}.`;
}
