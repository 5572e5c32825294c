import { type Latched, untoldOn } from '../alerts.ts';
import { describeChannel, nameOf } from '../channels/open.ts';
import type { Context } from '../context.ts';
import { NexusError } from '../errors.ts';
import { formatAge, formatItems } from '../format.ts';
import { lookAtHostAlerts } from '../jobs/hostalerts.ts';
import { spendingAlerts } from './spendingalerts.ts';
import type { Problem } from './statusmail.ts';

/** What no run has tried to send for so long has nobody who sends it. */
const unsentMs = 900_000;

/**
 * Channels that did not take what they were sent last: whoever looks may be the only one to hear of it. Alerts of
 * spending are in the store, and looked at where that is `reachable`.
 */
export async function channelProblems(context: Context, now: number, reachable: boolean): Promise<Problem[]> {
  const { channels } = context.config.alerts;
  if (channels.length === 0) return [];
  let alerts: Latched[];
  try {
    alerts = [...(await lookAtHostAlerts(context)), ...(reachable ? await spendingAlerts(context) : [])];
  } catch (error) {
    if (!(error instanceof NexusError)) throw error;
    return [
      {
        problem: `Who was alerted cannot be seen: ${error.message}`,
        next: error.hint ?? 'Run `nexus alerts list`.',
      },
    ];
  }
  return channels.flatMap((settings) => {
    const untold = alerts.flatMap((one) => {
      const found = untoldOn(one, nameOf(settings), now);
      if (found === undefined) return [];
      const { notice, delivery } = found;
      const at = Date.parse(notice.at);
      const waits = delivery === undefined ? Math.abs(now - at) >= unsentMs : delivery.state === 'failed';
      return waits ? [{ at, reason: delivery?.reason }] : [];
    });
    if (untold.length === 0) return [];
    const oldest = Math.min(...untold.map(({ at }) => at));
    const reason = untold.find((one) => one.reason !== undefined)?.reason ?? 'nothing has tried to send it.';
    return [
      {
        problem: `${formatItems(untold.length, 'alert')} did not go out by ${describeChannel(settings)}, the oldest from ${formatAge(oldest, now)}: ${reason}`,
        next: 'Try it with `nexus alerts test`; `nexus status --alert` sends what waits.',
      },
    ];
  });
}
