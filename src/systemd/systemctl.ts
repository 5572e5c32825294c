import { existsSync } from 'node:fs';
import { failedWith, NexusError } from '../errors.ts';
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
  /** Since when it is active, in ms; 0 when it never was. */
  since: number;
  /** systemd has another text of it than its file. */
  needsReload: boolean;
  /** The id of its last start; empty when there was none. */
  invocation: string;
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
  'ActiveEnterTimestampMonotonic',
  'NeedDaemonReload',
  'InvocationID',
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
        since: wallClock(Number(said.get('ActiveEnterTimestampMonotonic') ?? '0')),
        needsReload: said.get('NeedDaemonReload') === 'yes',
        invocation: said.get('InvocationID') ?? '',
      };
    },
  };
}

/** What was asked of units, by unit and property; a property may be said several times. */
export type Facts = Map<string, Map<string, string[]>>;

/**
 * Asks for properties of several units in one call; times are in UTC. Changes nothing, and never throws for what
 * systemd says: a sentence instead where it does not answer, or not in time.
 */
export async function askFacts(
  mode: Mode,
  units: readonly string[],
  asked: readonly string[],
  env: Record<string, string | undefined>,
  timeoutMs: number,
): Promise<Facts | string> {
  const scope = mode === 'user' ? ['--user'] : [];
  const args = [...scope, 'show', `--property=${['Id', ...asked].join(',')}`, '--', ...units];
  try {
    const { status, stdout, stderr } = await runCommand('systemctl', args, {
      env: { ...env, TZ: 'UTC', LC_ALL: 'C' },
      timeoutMs,
    });
    if (status === undefined) return `systemctl did not answer within ${timeoutMs / 1000} s.`;
    if (status !== 0) return stderr.trim().split('\n').at(0) || `systemctl ended with status ${status}.`;
    return factsIn(stdout);
  } catch (error) {
    if (failedWith(error, 'unavailable')) return error.message;
    throw error;
  }
}

/** A block of lines for each unit, with an empty line between two. */
function factsIn(text: string): Facts {
  const facts: Facts = new Map();
  for (const block of text.split('\n\n')) {
    const said = new Map<string, string[]>();
    for (const line of block.split('\n')) {
      const at = line.indexOf('=');
      if (at > 0) said.set(line.slice(0, at), [...(said.get(line.slice(0, at)) ?? []), line.slice(at + 1)]);
    }
    const [id] = said.get('Id') ?? [];
    if (id !== undefined) facts.set(id, said);
  }
  return facts;
}

/** Of systemd's monotonic clock, in µs, which is Node's too; 0 stays 0. */
function wallClock(us: number): number {
  return us === 0 ? 0 : Date.now() - (Number(process.hrtime.bigint() / 1000n) - us) / 1000;
}
