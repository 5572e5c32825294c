import { chmod, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { newOpenClawMachine, type OpenClawMachine } from './openclaw.ts';

/** What a unit says of itself, where it is not as it usually is. */
export type Said = Record<string, string | string[]>;

/** A machine whose user has a systemd, of which there is only what `systemctl show` would answer. */
export interface UnitMachine extends OpenClawMachine {
  /** What it answers from now on; units of the role that are not named are as after an installation. */
  systemd: (units: Record<string, Said | 'not-found'>) => Promise<void>;
  /** Replaces systemctl. */
  systemctl: (script: string) => Promise<void>;
}

/** The properties of a time by both clocks, so long ago; of a time before the machine slept, where it did since. */
export function at(name: string, agoMs: number, sleptMs = 0): Said {
  const kernel = Number(process.hrtime.bigint()) / 1e6 - (agoMs - sleptMs);
  return {
    [`${name}Timestamp`]: shown(Date.now() - agoMs),
    [`${name}TimestampMonotonic`]: String(Math.round(kernel * 1000)),
  };
}

/** As systemd shows a time in UTC. */
export function shown(ms: number): string {
  const date = new Date(ms);
  const day = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'][date.getUTCDay()];
  return `${day} ${date.toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}

const minute = 60_000;
const never = (name: string): Said => ({ [`${name}Timestamp`]: '', [`${name}TimestampMonotonic`]: '0' });

// As a real systemd 252 answers after `nexus install`.
function timer(calendar: string, everyMs: number): Said {
  return {
    TimersCalendar: `{ OnCalendar=${calendar} ; next_elapse=${shown(Date.now() + everyMs)} }`,
    NextElapseUSecRealtime: shown(Date.now() + 2.5 * minute),
    NextElapseUSecMonotonic: '0',
    LastTriggerUSec: '',
    Result: 'success',
    AccuracyUSec: '1s',
    RandomizedDelayUSec: '1min',
    LoadState: 'loaded',
    ActiveState: 'active',
    SubState: 'waiting',
    UnitFileState: 'enabled',
    ...at('ActiveEnter', 30_000),
    ...never('InactiveEnter'),
  };
}

function service(): Said {
  return {
    Result: 'success',
    NRestarts: '0',
    ...never('ExecMainStart'),
    ...never('ExecMainExit'),
    ExecMainCode: '0',
    ExecMainStatus: '0',
    User: '',
    BindPaths: '',
    LoadState: 'loaded',
    ActiveState: 'inactive',
    SubState: 'dead',
    UnitFileState: 'static',
    ...never('ActiveEnter'),
    ...never('InactiveEnter'),
  };
}

const usual: Record<string, () => Said> = {
  'nexus-upload.service': service,
  'nexus-upload.timer': () => timer('*-*-* *:00/5:00', 5 * minute),
  'nexus-pull-webhooks.service': service,
  'nexus-pull-webhooks.timer': () => timer('*-*-* *:*:00', minute),
  'nexus-status.service': service,
  'nexus-status.timer': () => timer('*-*-* *:00/5:00', 5 * minute),
  'nexus-backfill.service': () => ({ ...service(), UnitFileState: 'enabled' }),
};

// As of a unit that is nowhere.
const notFound: Said = {
  LoadState: 'not-found',
  ActiveState: 'inactive',
  SubState: 'dead',
  UnitFileState: '',
  NextElapseUSecRealtime: '',
  NextElapseUSecMonotonic: 'infinity',
  Result: 'success',
};

export const serving: Said = {
  ...service(),
  ActiveState: 'active',
  SubState: 'running',
  UnitFileState: 'enabled',
};

/** A run of a service that has ended, so long ago. */
export function ended(agoMs: number, status = 0, more: Said = {}): Said {
  const failed = status !== 0 && status !== 75;
  return {
    ...at('ExecMainStart', agoMs + 400),
    ...at('ExecMainExit', agoMs),
    ...at('InactiveEnter', agoMs),
    ExecMainCode: '1',
    ExecMainStatus: String(status),
    ...(failed ? { Result: 'exit-code', ActiveState: 'failed', SubState: 'failed' } : {}),
    ...more,
  };
}

export const runningSince = (agoMs: number): Said => ({
  ...at('ExecMainStart', agoMs),
  ...at('ActiveEnter', agoMs),
  ActiveState: 'active',
  SubState: 'running',
});

export function blocks(units: Record<string, Said | 'not-found'>): string {
  const all = { ...Object.fromEntries(Object.keys(usual).map((unit) => [unit, {}])), ...units };
  return Object.entries(all)
    .map(([unit, said]) => {
      const facts = said === 'not-found' ? notFound : { ...usual[unit]?.(), ...said };
      const lines = Object.entries({ Id: unit, ...facts }).flatMap(([name, value]) =>
        [value].flat().map((one) => `${name}=${one}\n`),
      );
      return lines.join('');
    })
    .join('\n');
}

export async function newUnitMachine(fixture?: string): Promise<UnitMachine> {
  const machine = await newOpenClawMachine(fixture);
  const [bin, runtime] = ['bin', 'run'].map((name) => path.join(machine.home, name));
  const directory = path.join(machine.home, '.config', 'systemd', 'user');
  await mkdir(path.join(runtime ?? '', 'systemd'), { recursive: true });
  for (const one of [bin ?? '', directory]) await mkdir(one, { recursive: true });
  const env = { PATH: `${bin}:/usr/bin:/bin`, XDG_RUNTIME_DIR: runtime ?? '' };
  const over = (options: Parameters<OpenClawMachine['nexus']>[1] = {}) => ({
    ...options,
    env: { ...env, ...options.env },
  });
  const systemctl = async (script: string) => {
    const file = path.join(bin ?? '', 'systemctl');
    await writeFile(file, `#!/bin/sh\n${script}\n`);
    await chmod(file, 0o755);
  };
  return {
    ...machine,
    nexus: (args, options) => machine.nexus(args, over(options)),
    json: (args, options) => machine.json(args, over(options)),
    start: (args, options) => machine.start(args, over(options)),
    systemctl,
    async systemd(units) {
      for (const unit of [...Object.keys(usual), ...Object.keys(units)])
        await writeFile(path.join(directory, unit), '');
      const answer = path.join(machine.home, 'answer');
      await writeFile(answer, blocks(units));
      await systemctl(`echo "$TZ $*" >> '${machine.home}/asked'\ncat '${answer}'`);
    },
  };
}

/** The exit status of `nexus status`, and the lines that say whether all is well. */
export async function verdictOf({
  nexus,
}: UnitMachine): Promise<{ status: number | undefined; lines: string[] }> {
  const { status, stdout } = await nexus(['status']);
  return { status, lines: (stdout.split('\n\n')[0] ?? '').split('\n') };
}

export const well = { status: 0, lines: ['All is well.'] };

export const problem = (...lines: string[]) => ({
  status: 3,
  lines: lines.map((line) => `not well: ${line}`),
});

/** A timer that has been there for long. */
export const old = (unit: string, more: Said = {}) => ({
  [unit]: { ...at('ActiveEnter', 30 * 60 * minute), ...more },
});
