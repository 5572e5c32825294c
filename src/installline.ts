import { type Command, Option } from 'commander';
import type { Surroundings } from './context.ts';
import { NexusError } from './errors.ts';
import { type Flags, textIn } from './flags.ts';

/** How commands are declared and run. */
interface Declaring {
  command: (parent: Command, usage: string, purpose: string, example: string) => Command;
  act: (command: Command, run: (given: Surroundings, flags: Flags) => Promise<number | void>) => void;
}

/** Declares `install` and `uninstall`. */
export function declareInstall(program: Command, { command, act }: Declaring): void {
  const install = command(
    program,
    'install',
    'write, enable and start the systemd units of this machine; run again after an upgrade',
    'sudo nexus install --system',
  )
    .option('--user', "units of this user's own systemd (default unless root)")
    .option('--system', 'units of the system (default for root)')
    .addOption(
      new Option(
        '--role <role>',
        'the jobs beside OpenClaw, `nexus serve`, or both (default: what is installed, else host)',
      ).choices(['host', 'endpoint', 'both']),
    )
    .option('--dry-run', 'print the units and do nothing')
    .option('--force', 'also overwrite units that were changed by hand')
    .option('--json', 'print one JSON object');
  act(install, async (given, flags) => {
    const role = textIn(flags, 'role');
    return (await import('./commands/install.ts')).install(given, {
      mode: modeIn(flags),
      role: role === 'host' || role === 'endpoint' || role === 'both' ? role : undefined,
      dryRun: flags['dryRun'] === true,
      force: flags['force'] === true,
    });
  });

  const uninstall = command(
    program,
    'uninstall',
    'stop and remove what `nexus install` wrote; data stays',
    'sudo nexus uninstall --system',
  )
    .option('--user', "units of this user's own systemd (default unless root)")
    .option('--system', 'units of the system (default for root)')
    .option('--force', 'also remove units that were changed by hand')
    .option('--json', 'print one JSON object');
  act(uninstall, async (given, flags) =>
    (await import('./commands/uninstall.ts')).uninstall(given, {
      mode: modeIn(flags),
      force: flags['force'] === true,
    }),
  );
}

function modeIn(flags: Flags): 'user' | 'system' | undefined {
  const { user, system } = flags;
  if (user === true && system === true) throw new NexusError('usage', 'Say --user or --system, not both.');
  return user === true ? 'user' : system === true ? 'system' : undefined;
}
