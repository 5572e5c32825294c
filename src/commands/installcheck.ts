import type { Output } from '../output.ts';
import type { Systemctl, UnitState } from '../systemd/systemctl.ts';
import type { Plan } from './installplan.ts';

/** Looks whether what was installed runs: the endpoint, each timer, and one job under the very unit it has. */
export async function checkUnits(
  plan: Plan,
  systemctl: Systemctl,
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
    if (state.result !== 'success')
      problems.push(`nexus-status.service could not do its work${because(state)}. ${look(state.unit)}`);
  }
  if (names.includes('nexus-backfill.service')) {
    const state = await systemctl.state('nexus-backfill.service');
    states.push(state);
    if (state.active === 'failed')
      problems.push(`nexus-backfill.service has failed${because(state)}. ${look(state.unit)}`);
  }
  return { states, problems };
}

function because({ result, status }: UnitState): string {
  return result === 'exit-code' ? ` (exit status ${status})` : result === 'success' ? '' : ` (${result})`;
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
