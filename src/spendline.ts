import type { Command } from 'commander';
import type { Context } from './context.ts';
import { NexusError } from './errors.ts';
import { commas, type Flags, textIn } from './flags.ts';

/** How the command line declares a subcommand, and one that needs the configuration. */
export interface Declaring {
  command: (parent: Command, usage: string, purpose: string, example: string) => Command;
  run: (
    command: Command,
    run: (context: Context, flags: Flags, names: string[]) => Promise<number | void>,
  ) => void;
}

/** Filters of usage: the flag, and what it takes. */
const filters = {
  agent: 'only these agents, by their ids in Nexus',
  model: 'only these models',
  provider: 'only these providers',
  trigger: 'only sessions that this started: cron, webhook, channel, subagent, operator, …',
  host: 'only sessions of these hosts',
  job: 'only sessions of these cron jobs',
  source: 'only sessions that webhooks of these senders began',
  session: 'only these sessions, as `agent/session` or by their names',
};

/** Declares `nexus usage` and what is below it. */
export function declareUsage(program: Command, { command, run }: Declaring): void {
  const usage = command(
    program,
    'usage',
    'say what agents spent, in tokens and dollars',
    'nexus usage --by agent,model --last 7d',
  )
    .option(
      '--by <dimensions>',
      'of agent, day, week, month, model, provider, session, trigger, host, job and source (default: day)',
      commas,
    )
    .option('--from <date>', 'from this date, or this time on a quarter of an hour')
    .option('--to <date>', 'up to the end of this date, or up to this time')
    .option('--last <days>', 'the last so many days or weeks, today with them: 7d, 4w (default: 30d)');
  for (const [name, purpose] of Object.entries(filters)) usage.option(`--${name} <names>`, purpose, commas);
  usage
    .option('--tz <zone>', "whose days are meant, like Europe/Berlin (default: this machine's)")
    .option('--csv', 'print CSV, without totals')
    .option('--live', 'stay, and show it anew every few seconds; with --json a line each time')
    .option('--json', 'print one JSON object');
  run(usage, async (context, flags) =>
    (await import('./commands/usage.ts')).usage(context, {
      ...askedIn(flags),
      csv: flags['csv'] === true,
      live: flags['live'] === true,
    }),
  );

  const top = command(
    usage,
    'top',
    'the costliest sessions and cron jobs, and runs that cost over twice the median of their job',
    'nexus usage top --last 7d',
  );
  run(top, async (context, flags) => {
    refuse(flags, 'top', ['by', 'csv', 'live']);
    return (await import('./commands/usagetop.ts')).top(context, askedIn(flags));
  });

  const rebuild = command(
    usage,
    'rebuild',
    'forget the index and read everything that is stored again',
    'nexus usage rebuild',
  );
  run(rebuild, async (context, flags) => {
    const periods = ['from', 'to', 'last', 'tz'];
    refuse(flags, 'rebuild', ['by', ...periods, ...Object.keys(filters), 'csv', 'live']);
    return (await import('./commands/usage.ts')).rebuild(context);
  });
}

/** Flags of `usage` are read behind the name of what is below it too, where not all make sense. */
function refuse(flags: Flags, name: string, senseless: readonly string[]): void {
  const found = senseless.find((flag) => flags[flag] !== undefined);
  if (found === undefined) return;
  throw new NexusError('usage', `\`nexus usage ${name}\` has no --${found}.`, {
    hint: 'Leave it out.',
  });
}

function askedIn(flags: Flags) {
  const list = (name: string) => {
    const value = flags[name];
    return Array.isArray(value) ? value.map(String) : undefined;
  };
  return {
    by: list('by'),
    filters: Object.fromEntries(Object.keys(filters).map((name) => [name, list(name)])),
    from: textIn(flags, 'from'),
    to: textIn(flags, 'to'),
    last: textIn(flags, 'last'),
    tz: textIn(flags, 'tz'),
    csv: flags['csv'] === true,
    live: flags['live'] === true,
  };
}
