import { checkAgentId } from '../agents.ts';
import type { Context } from '../context.ts';
import { exit, NexusError } from '../errors.ts';
import { formatItems } from '../format.ts';
import { openAccount } from '../jobs/putioaccount.ts';
import { warningsOf } from '../jobs/putiopull.ts';
import { farthestMs, reconcile as look } from '../jobs/reconcile.ts';
import { openMailbox } from '../open.ts';

export interface ReconcileOptions {
  /** Its id in Nexus. */
  agent: string | undefined;
  /** Where to begin instead of the last look, ms since 1970. */
  since: number | undefined;
  /** Also where the account does not call this agent. */
  force: boolean;
}

/** Finds what finished at put.io and never called back. */
export async function reconcile(
  context: Context,
  { agent, since, force }: ReconcileOptions,
): Promise<number> {
  const { config, env, output, now, signal, version } = context;
  const whose = agent ?? config.putio.agent;
  if (whose === undefined)
    throw new NexusError('usage', "It is not known whose the account's transfers are.", {
      hint: 'Say it with --agent, or once with `nexus config set putio.agent ID`.',
    });
  checkAgentId(whose);
  if (since !== undefined && since < now().getTime() - farthestMs)
    throw new NexusError('usage', '--since must be at most 29 days back.', {
      hint: 'What was delivered longer ago is not known any more, and would come a second time.',
    });
  const putio = await openAccount(config, env, { signal, now });
  const mailbox = await openMailbox(config, signal, version, { say: output.debug });
  try {
    const began = now();
    const asked = { agent: whose, since, force: force || since !== undefined };
    const result = await look(asked, { config, mailbox, putio, signal, now });
    const ok = result.failed.length === 0;
    for (const warning of warningsOf(result)) output.warn(warning);
    for (const { item, reason } of result.setAside) output.warn(`${item}: ${reason}`);
    for (const { item, reason } of result.failed) output.error(`${item}: ${reason}`);
    if (output.json) {
      const durationMs = now().getTime() - began.getTime();
      output.result({ command: 'putio reconcile', ok, ...result, durationMs, schemaVersion: 1 });
    } else {
      const { found, already, recent, elsewhere, failed, setAside } = result;
      if (found.length > 0)
        output.table(
          [{ title: 'ITEM' }, { title: 'TRANSFER', align: 'right' }, { title: 'NAME', align: 'left' }],
          found.map(({ item, transfer, name }) => [item, transfer, name ?? '']),
        );
      const parts = [
        `${formatItems(found.length, 'transfer')} found that never called back`,
        `${already} known`,
        ...(recent > 0 ? [`${recent} just finished`] : []),
        ...(elsewhere > 0 ? [`${elsewhere} of others`] : []),
        ...(setAside.length > 0 ? [`${setAside.length} set aside`] : []),
        ...(failed.length > 0 ? [`${failed.length} failed`] : []),
      ];
      output.result(`putio reconcile: ${parts.join(', ')}, of what finished since ${result.from}.`);
      if (found.length > 0) output.info('`nexus pull-webhooks` delivers them.');
    }
    return ok ? exit.done : exit.someFailed;
  } finally {
    await mailbox.close();
  }
}
