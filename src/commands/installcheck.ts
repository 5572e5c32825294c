import type { Environment } from '../configfile.ts';
import { factsIn } from '../logline.ts';
import type { Output } from '../output.ts';
import { linesOf } from '../systemd/failure.ts';
import type { Systemctl, UnitState } from '../systemd/systemctl.ts';
import type { Plan } from './installplan.ts';

/** Looks whether what was installed runs: the endpoint, each timer, and one job under the very unit it has. */
export async function checkUnits(
  plan: Plan,
  systemctl: Systemctl,
  env: Environment,
): Promise<{ states: UnitState[]; problems: string[] }> {
  const names = plan.files.map(({ unit }) => unit);
  const states: UnitState[] = [];
  const problems: string[] = [];
  const log = plan.mode === 'user' ? 'journalctl --user' : 'journalctl';
  const look = (unit: string) => `See \`${log} -u ${unit} -n 20\`.`;

  for (const unit of names.filter((name) => name.endsWith('.timer'))) {
    const state = await systemctl.state(unit);
    states.push(state);
    if (state.active !== 'active') problems.push(`${unit} is ${state.active}. ${look(unit)}`);
  }
  if (names.includes('nexus-serve.service')) {
    const state = await systemctl.state('nexus-serve.service');
    states.push(state);
    if (state.active !== 'active')
      problems.push(`nexus-serve.service is ${state.active}${because(state)}. ${look(state.unit)}`);
  }
  if (names.includes('nexus-status.service')) {
    // It opens all that the other jobs open, and changes nothing.
    await systemctl.try('start', 'nexus-status.service');
    const state = await systemctl.state('nexus-status.service');
    states.push(state);
    const said = state.status === 0 ? [] : await unreachable(state, env, plan.mode === 'user');
    if (said.length === 0 && (state.result !== 'success' || !looked.has(state.status)))
      problems.push(`nexus-status.service could not do its work${because(state)}. ${look(state.unit)}`);
    problems.push(...said);
  }
  if (names.includes('nexus-backfill.service')) {
    const state = await systemctl.state('nexus-backfill.service');
    states.push(state);
    if (state.active === 'failed')
      problems.push(`nexus-backfill.service has failed${because(state)}. ${look(state.unit)}`);
    // One that another job is in the way of (75) only waits for its end.
    else if (state.sub.startsWith('auto-restart') && state.status !== 75)
      problems.push(
        `nexus-backfill.service has failed${because(state)} and tries again in a few minutes. ${look(state.unit)}`,
      );
  }
  return { states, problems };
}

/** Statuses of a look that was done: all is well, it was told what is not, somebody stopped it. */
const looked = new Set<number | undefined>([0, 3, 143]);

/**
 * That Nexus is out of reach or refuses, as the look at the status said it: then nothing that was installed can do its
 * work. What else is not well may have been so before, and is for `nexus status`.
 */
async function unreachable(
  { unit, invocation }: UnitState,
  env: Environment,
  user: boolean,
): Promise<string[]> {
  const lines = await linesOf(unit, invocation, env, user);
  return lines
    .map(factsIn)
    .filter(({ code, next }) => code !== undefined && next !== undefined)
    .map(({ message, next }) => [message, next].join(' '));
}

function because({ result, status }: UnitState): string {
  const by = result === 'exit-code' || (result === 'success' && status !== 0);
  return by ? ` (exit status ${status})` : result === 'success' ? '' : ` (${result})`;
}

export function showUnits(output: Output, states: readonly UnitState[]): void {
  output.table(
    [{ title: 'UNIT' }, { title: 'STATE', align: 'left' }, { title: 'SAYS', align: 'left' }],
    states.map(({ unit, active, sub, result, text }) => [
      unit,
      `${active} (${sub})`,
      text !== '' ? text : result === 'success' ? '' : result,
    ]),
  );
}
