import type { Command } from 'commander';
import type { Context, Surroundings } from './context.ts';
import type { Flags } from './flags.ts';

/** How the command line declares a subcommand, one that needs the configuration, and one that does not. */
export interface Declaring {
  command: (parent: Command, usage: string, purpose: string, example: string) => Command;
  run: (
    command: Command,
    run: (context: Context, flags: Flags, names: string[]) => Promise<number | void>,
  ) => void;
  runBare: (
    command: Command,
    run: (given: Surroundings, flags: Flags, names: string[]) => Promise<number | void>,
  ) => void;
}

/** Declares `nexus alerts …` and `nexus retry`. */
export function declareAlerts(program: Command, { command, run, runBare }: Declaring): void {
  const group = program.command('alerts').description('who is told when something is not well');

  const test = command(
    group,
    'test',
    'send one through every channel, and say what each answered',
    'nexus alerts test',
  ).option('--json', 'print one JSON object');
  run(test, async (context) => (await import('./commands/alerts.ts')).test(context));

  const list = command(
    group,
    'list',
    'list the alerts that last or are over, and who was told',
    'nexus alerts list',
  ).option('--json', 'print one JSON object');
  run(list, async (context) => (await import('./commands/alerts.ts')).list(context));

  const unitFailed = command(
    group,
    'unit-failed <unit>',
    "tell that a unit of systemd has failed; for a unit's OnFailure=",
    'nexus alerts unit-failed nexus-upload.service',
  )
    .option('--user', "ask the user's systemd, not the system's")
    .option('--json', 'print one JSON object');
  runBare(unitFailed, async (given, flags, [unit = '']) =>
    (await import('./commands/alerts.ts')).unitFailed(given, { unit, user: flags['user'] === true }),
  );

  const retry = command(
    program,
    'retry [items...]',
    'let the next run try again what failed so often that it was set aside',
    'nexus retry --all',
  )
    .option('--all', 'all that is set aside')
    .option('--json', 'print one JSON object');
  run(retry, async (context, flags, items) =>
    (await import('./commands/retry.ts')).retry(context, { items, all: flags['all'] === true }),
  );
}
