import { mkdir, writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import path from 'node:path';
import { type Machine, newMachine, type Ran } from '../cli/nexus.ts';

const project = path.resolve(import.meta.dirname, '..', '..');

/** A machine with an OpenClaw of two agents in its home, as far as `nexus install --dry-run` looks. */
export interface DryMachine extends Machine {
  /** The plan, as text in which nothing is of this machine. */
  dryRun: (args: readonly string[], env?: Record<string, string>) => Promise<Ran>;
  /** The units themselves, by name. */
  units: (args: readonly string[], env?: Record<string, string>) => Promise<Map<string, string>>;
}

export async function newDryMachine(): Promise<DryMachine> {
  const machine = await newMachine();
  const state = path.join(machine.home, '.openclaw');
  for (const agent of ['main', 'research'])
    await mkdir(path.join(state, 'agents', agent, 'sessions'), { recursive: true });
  await writeFile(path.join(state, 'openclaw.json'), '{}');
  // Root's own home is not this one: say where it is.
  const known = (env: Record<string, string> = {}) => ({
    env: { PATH: '/usr/bin:/bin', OPENCLAW_STATE_DIR: state, ...env },
  });
  return {
    ...machine,
    async dryRun(args, env) {
      const ran = await machine.nexus(['install', '--dry-run', ...args], known(env));
      return { ...ran, stdout: plain(ran.stdout, machine.home) };
    },
    async units(args, env) {
      const { answer } = await machine.json(['install', '--dry-run', ...args], known(env));
      const units = Array.isArray(answer['units']) ? answer['units'] : [];
      return new Map(units.map(({ unit, text }: { unit: string; text: string }) => [unit, text]));
    },
  };
}

function plain(text: string, home: string): string {
  const { username, homedir } = userInfo();
  return (
    text
      .replaceAll(home, '<home>')
      // Node is among the project's packages, where they are installed.
      .replaceAll(path.dirname(process.execPath), '<node>')
      .replaceAll(project, '<nexus>')
      .replaceAll(homedir, '<account>')
      .replaceAll(`User=${username}\n`, 'User=<user>\n')
      .replaceAll(/^X-Nexus=.*$/gm, 'X-Nexus=<version>')
      // Shown only where the project or Node lie in a home or in /tmp.
      .replaceAll(/^BindReadOnlyPaths=-<(nexus|node)>\n/gm, '')
  );
}
