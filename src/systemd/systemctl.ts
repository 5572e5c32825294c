import { existsSync } from 'node:fs';
import { NexusError } from '../errors.ts';
import { type Answer, runCommand } from './command.ts';

/** Of the machine, or of one user. */
export type Mode = 'system' | 'user';

/** What systemd says of a unit. */
export interface UnitState {
  unit: string;
  /** `active`, `inactive`, `activating`, `failed`, … */
  active: string;
  sub: string;
  /** `success`, or how the last run ended badly. */
  result: string;
  /** Exit status of the last run; undefined when there was none. */
  status: number | undefined;
  /** What the service says of itself. */
  text: string;
  enabled: boolean;
  /** It was started since the machine was. */
  started: boolean;
}

export interface Systemctl {
  /** Throws `unavailable` with what systemctl said. */
  run: (...args: string[]) => Promise<void>;
  /** Its exit status and what it said, whatever they are. */
  try: (...args: string[]) => Promise<Answer>;
  state: (unit: string) => Promise<UnitState>;
}

const properties = [
  'ActiveState',
  'SubState',
  'Result',
  'ExecMainStatus',
  'ExecMainStartTimestampMonotonic',
  'StatusText',
  'UnitFileState',
];

/** `unavailable` where systemd does not run, or not for this user. */
export async function openSystemctl(mode: Mode, env: Record<string, string | undefined>): Promise<Systemctl> {
  if (!existsSync('/run/systemd/system'))
    throw new NexusError('unavailable', 'systemd does not run on this machine.', {
      hint: 'Run `nexus serve` and the jobs by other means; `--dry-run` shows the units.',
    });
  const scope = mode === 'user' ? ['--user'] : [];
  const call = (args: string[]) => runCommand('systemctl', [...scope, ...args], { env });
  async function run(...args: string[]): Promise<void> {
    const { status, stderr } = await call(args);
    if (status === 0) return;
    const said = stderr.trim().split('\n').at(0) ?? '';
    throw new NexusError('unavailable', `systemctl ${args.join(' ')}: ${said === '' ? 'failed.' : said}`);
  }
  if (mode === 'user') {
    const { status } = await call(['show', '--property=Version']);
    if (status !== 0)
      throw new NexusError('unavailable', "This user's systemd cannot be reached.", {
        hint: 'Log in as that user, not through su or sudo, or run `nexus install --system` as root.',
      });
  }
  return {
    run,
    try: (...args) => call(args),
    async state(unit) {
      const { stdout } = await call(['show', unit, `--property=${properties.join(',')}`]);
      const said = new Map(
        stdout.split('\n').map((line) => {
          const at = line.indexOf('=');
          return [line.slice(0, at), line.slice(at + 1)] as const;
        }),
      );
      const started = Number(said.get('ExecMainStartTimestampMonotonic') ?? '0') > 0;
      return {
        unit,
        active: said.get('ActiveState') ?? 'unknown',
        sub: said.get('SubState') ?? '',
        result: said.get('Result') ?? '',
        status: started ? Number(said.get('ExecMainStatus')) : undefined,
        text: said.get('StatusText') ?? '',
        enabled: said.get('UnitFileState') === 'enabled',
        started,
      };
    },
  };
}
