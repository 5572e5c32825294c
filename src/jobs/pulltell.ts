import type { Config } from '../config.ts';
import type { Environment } from '../configfile.ts';
import { answeredBatches } from '../openclaw/answered.ts';
import { composeMessage, repeatMessage, type Sees, type TellingItem } from '../openclaw/message.ts';
import { notifyConfig } from '../openclaw/notifyconfig.ts';
import { tellAgent, type Way } from '../openclaw/notify.ts';
import type { Outcome } from '../openclaw/outcome.ts';
import type { FailedItem } from '../report.ts';
import { resolveSecret, secretVariables } from '../secrets.ts';
import type { Batch, Deliveries } from './deliveries.ts';
import { readDelivered } from './delivered.ts';
import { inboxOf } from './inbox.ts';
import { nobody, type Notified } from './pullreport.ts';
import type { Tell } from './pullsite.ts';
import {
  afterSending,
  answered,
  beforeSending,
  givenUp,
  mayBeAnswered,
  nextStep,
  type Step,
} from './telling.ts';

/** After this many messages in a row that OpenClaw did not take, an agent's others wait for the next run. */
const refusalsToGiveUp = 3;

/**
 * Tells agents by the configuration and by what openclaw.json says: one message a batch, the oldest first. What may
 * have been answered is looked up in the agent's transcripts before it is told again.
 */
export function tellDue(config: Config, env: Environment): Tell {
  return async ({ state, agent, deliveries, signal, now }) => {
    const notified = nobody();
    const failed: FailedItem[] = [];
    const batches = deliveries.batches(['untold', 'admitted'], agent.id);
    if (batches.length === 0) return { notified, failed };
    const by = config.agents[agent.id]?.notify ?? config.notify.by;
    if (by === 'none') {
      for (const { id } of batches) deliveries.updateBatch(id, { state: 'none', nextAt: null });
      return { notified, failed };
    }

    const { hooksUrl, hooksToken } = config.notify;
    const { way, sees } = notifyConfig({
      state,
      agent: agent.id,
      env,
      by,
      hooksUrl,
      hooksToken: hooksToken === undefined ? undefined : await resolveSecret(hooksToken, env),
      inbox: inboxOf(agent.workspace),
      secretVariables: secretVariables(config),
    });
    const sought = batches
      .filter(mayBeAnswered)
      .map(({ id, createdAt }) => ({ batch: id, since: createdAt }));
    const seen = await answeredBatches(state, agent, sought, now().getTime());

    let refusals = 0;
    for (const batch of batches) {
      if (signal.aborted) break;
      const ended = await oneBatch(batch, seen.has(batch.id));
      notified[ended.as]++;
      if (ended.reason !== undefined)
        failed.push({ item: `message ${batch.id} to ${agent.id}`, reason: ended.reason });
    }
    return { notified, failed };

    async function oneBatch(batch: Batch, isAnswered: boolean): Promise<Ended> {
      if (isAnswered) {
        deliveries.updateBatch(batch.id, answered());
        return { as: 'done' };
      }
      const step = nextStep(batch, now().getTime(), way.by === 'none' ? 'nothing' : way.by);
      if (step.do === 'give up') {
        const change = givenUp(batch);
        deliveries.updateBatch(batch.id, change);
        return { as: 'failed', reason: change.lastError ?? undefined };
      }
      const notTaken = batch.state === 'untold' ? batch.lastError : undefined;
      if (step.do !== 'send' && step.do !== 'repeat') return { as: 'waiting', reason: notTaken };
      if (refusals >= refusalsToGiveUp)
        return { as: 'waiting', reason: notTaken ?? 'Not told, because the messages before were not taken.' };
      const outcome = await send(batch, step);
      refusals = outcome.state === 'failed' && outcome.refused ? refusals + 1 : 0;
      return endOf(outcome, step);
    }

    async function send(batch: Batch, step: Sending): Promise<Outcome> {
      const { inlineBytes } = config.notify;
      const message =
        deliveries.messageOf(batch.id) ?? (await messageOf(deliveries, batch, sees, inlineBytes));
      deliveries.updateBatch(batch.id, beforeSending(batch, step.attempt, message, now().getTime()));
      const outcome: Outcome = await tellAgent(toldBy(way), {
        agent: agent.id,
        batch: batch.id,
        attempt: step.attempt,
        message: step.do === 'repeat' ? repeatMessage(message, step.attempt) : message,
        waitSeconds: config.notify.waitSeconds,
        signal,
      });
      deliveries.updateBatch(batch.id, afterSending(batch, step.attempt, outcome, now().getTime()));
      return outcome;
    }
  };
}

type Sending = Extract<Step, { do: 'send' | 'repeat' }>;

interface Ended {
  as: keyof Notified;
  reason?: string | undefined;
}

/** One that was taken, though it went wrong after that, is told again in its time: admitted, and said to be so. */
function endOf(outcome: Outcome, step: Sending): Ended {
  if (outcome.state === 'done') return { as: 'done' };
  if (outcome.state === 'failed' && outcome.refused) return { as: 'failed', reason: outcome.reason };
  const as = step.do === 'repeat' ? 'repeated' : 'admitted';
  return outcome.state === 'failed' ? { as, reason: outcome.reason } : { as };
}

function toldBy(way: Way): Exclude<Way, { by: 'none' }> {
  return way.by === 'none' ? { by: 'nothing', reason: 'It is not to be told.' } : way;
}

/** Contents are read only for an agent that cannot do so itself, and only those that may have room. */
async function messageOf(
  deliveries: Deliveries,
  { id }: Batch,
  sees: Sees,
  inlineBytes: number,
): Promise<string> {
  const items: TellingItem[] = [];
  let left = inlineBytes;
  for (const item of deliveries.itemsOf(id)) {
    if (sees !== 'nothing') items.push(item);
    else {
      const found = await readDelivered(item.file, left);
      if (found.content !== undefined) left -= Buffer.byteLength(found.content);
      items.push({ ...item, ...found });
    }
  }
  return composeMessage({ batch: id, items, sees, inlineBytes });
}
