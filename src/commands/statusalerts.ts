import type { Context } from '../context.ts';
import { describe } from '../errors.ts';
import { heartbeatOf } from '../jobs/heartbeat.ts';
import { alertOnStatus } from '../jobs/unitalerts.ts';

/** What is found that no job can say of itself bears a subject of this kind. */
const kinds = ['silent'];

/** Sends the alerts that are due; those of subjects that are undecided go on if they last. What goes wrong with that is a warning, and the status stays what it is. */
export async function alertDue(
  { config, env, now, output }: Context,
  problems: readonly { problem: string; next: string; subject?: string }[],
  undecided: readonly string[] | 'all',
): Promise<void> {
  const around = { config, env, now, warn: output.warn, info: output.info };
  const found = problems.flatMap(({ subject, ...problem }) =>
    subject === undefined ? [] : [{ subject, ...problem }],
  );
  const heartbeat = heartbeatOf(config, 'status', env, output.warn);
  try {
    await alertOnStatus(
      around,
      found,
      undecided === 'all' ? [] : kinds,
      undecided === 'all' ? [] : undecided,
    );
  } catch (error) {
    output.warn(`Alerts cannot be sent: ${describe(error)}`);
  }
  const [first] = problems;
  if (first === undefined) await heartbeat.end('well', 'All is well.');
  else await heartbeat.end('failed', problems.map(({ problem }) => problem).join('\n'));
}
