import { Command, CommanderError, Option } from 'commander';
import { declareAlerts } from './alertline.ts';
import type { Settings } from './configfile.ts';
import type { Context, Surroundings } from './context.ts';
import { NexusError } from './errors.ts';
import { collect, commas, type Flags, listIn, numberIn, pick, since, textIn, until, whole } from './flags.ts';
import { formats, levels, logIn, type LogSettings } from './logline.ts';
import { declarePutio } from './putioline.ts';
import { declareWebhooks } from './webhookline.ts';
import { declareInstall } from './installline.ts';
import { declareUsage } from './spendline.ts';

/** A command line that makes sense. */
export interface Invocation {
  kind: 'command';
  /** `backfill`, `sessions get`. */
  name: string;
  json: boolean;
  log: LogSettings;
  /** `--config`. */
  configFile: string | undefined;
  /** Imports what the command needs, which nothing did before, and runs it. */
  run: (surroundings: Surroundings) => Promise<number | void>;
}

/** What is to be shown instead: help or the version; `asked` when the command line asked for it. */
interface Text {
  kind: 'text';
  text: string;
  asked: boolean;
}

interface Refusal {
  kind: 'error';
  /** The command, as far as it was told. */
  name: string;
  json: boolean;
  log: LogSettings;
  error: NexusError;
}

/** Reads a command line, without `node` and the script. Runs, opens and prints nothing. */
export function readCommandLine(argv: readonly string[], version: string): Invocation | Text | Refusal {
  let text = '';
  let invocation: Invocation | undefined;
  const program = new Command('nexus')
    .description('The archive, mailbox and ledger of spending for OpenClaw agents.')
    .option('--config <path>', 'the configuration file')
    .addOption(new Option('--log-level <level>', 'how much to log (default: info)').choices(levels))
    .addOption(new Option('--log-format <format>', 'text (the default) or json').choices(formats))
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show how it is used')
    .configureHelp({ showGlobalOptions: true })
    .exitOverride()
    .configureOutput({
      writeOut: (part) => (text += part),
      writeErr: (part) => (text += part),
      // Told by the refusal.
      outputError: () => undefined,
    });
  declare(program, (found) => (invocation = found));
  try {
    program.parse([...argv], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code.startsWith('commander.help') || error.code === 'commander.version')
      return { kind: 'text', text: text.trimEnd(), asked: error.exitCode === 0 };
    const name = nameIn(program, argv);
    return {
      kind: 'error',
      name,
      json: wantsJson(argv),
      log: logWanted(argv),
      error: sentenceOf(error, name),
    };
  }
  return invocation ?? { kind: 'text', text: program.helpInformation().trimEnd(), asked: false };
}

function declare(program: Command, found: (invocation: Invocation) => void): void {
  /** Declares a subcommand's name, purpose and example. */
  function command(parent: Command, usage: string, purpose: string, example: string): Command {
    return parent.command(usage).description(purpose).addHelpText('after', `\nExample:\n  $ ${example}`);
  }

  function act(
    command: Command,
    run: (surroundings: Surroundings, flags: Flags, names: string[]) => Promise<number | void>,
  ): void {
    command.action(() => {
      const flags = command.optsWithGlobals<Flags>();
      const configFile = textIn(flags, 'config');
      const json = flags['json'] === true;
      const names = command.processedArgs.flat().filter((name) => typeof name === 'string');
      const name = pathOf(command);
      const log = logIn(flags['logLevel'], flags['logFormat']);
      found({ kind: 'command', name, json, log, configFile, run: (given) => run(given, flags, names) });
    });
  }

  /** The same for a command that needs the configuration; `settings` are the flags that lie over it. */
  function actConfigured(
    command: Command,
    settings: (flags: Flags) => Settings,
    run: (context: Context, flags: Flags, names: string[]) => Promise<number | void>,
  ): void {
    act(command, async (given, flags, names) => {
      const { loadConfig } = await import('./config.ts');
      const { env, output, configPath: file } = given;
      const log = { level: flags['logLevel'], format: flags['logFormat'] };
      const config = await loadConfig({ env, file, flags: { ...settings(flags), log }, logAs: output.logAs });
      return run({ ...given, config }, flags, names);
    });
  }

  const backfill = command(
    program,
    'backfill',
    'archive all of history: every transcript of every agent, of both eras of OpenClaw',
    'nexus backfill --agent main --since 2026-10-01',
  )
    .option('--agent <id>', 'only this OpenClaw agent; may be said several times', collect)
    .option('--since <date>', 'only transcripts that changed on or after this date or time', since)
    .option('--until <date>', 'only transcripts that changed up to this time, or the end of this date', until)
    .option('--all', 'also checkpoints, backups and copies of corrupt files')
    .option('--dry-run', 'say what would be stored and store nothing')
    .option('--verify', 'read again what is stored and compare it, byte for byte')
    .option('--concurrency <n>', 'how many transcripts at once', whole(1, 64))
    .option('--json', 'print one JSON object');
  actConfigured(backfill, pick('concurrency'), async (context, flags) => {
    const command = await import('./commands/backfill.ts');
    const [from, to] = [numberIn(flags, 'since'), numberIn(flags, 'until')];
    return command.backfill(context, {
      agent: listIn(flags, 'agent'),
      ...(from === undefined ? {} : { since: from }),
      ...(to === undefined ? {} : { until: to }),
      all: flags['all'] === true,
      dryRun: flags['dryRun'] === true,
      verify: flags['verify'] === true,
    });
  });

  const upload = command(program, 'upload', 'ship what is new since the last time', 'nexus upload --watch')
    .option('--agent <id>', 'only this OpenClaw agent; may be said several times', collect)
    .option('--watch', 'stay, and ship as transcripts change')
    .option('--dry-run', 'say what would be stored and store nothing')
    .option('--json', 'print one JSON object');
  actConfigured(upload, pick(), async (context, flags) => {
    const command = await import('./commands/upload.ts');
    return command.upload(context, {
      agent: listIn(flags, 'agent'),
      watch: flags['watch'] === true,
      dryRun: flags['dryRun'] === true,
    });
  });

  const pull = command(
    program,
    'pull-webhooks',
    'put what came for the agents into their inboxes, and tell them',
    'nexus pull-webhooks --follow',
  )
    .option('--agent <id>', 'only this OpenClaw agent; may be said several times', collect)
    .option('--follow', 'stay, and deliver what comes as it comes')
    .option('--json', 'print one JSON object');
  actConfigured(pull, pick(), async (context, flags) => {
    const command = await import('./commands/pull.ts');
    return command.pull(context, { agent: listIn(flags, 'agent'), follow: flags['follow'] === true });
  });

  const serve = command(
    program,
    'serve',
    'answer jobs on other machines over HTTP',
    'nexus serve --port 7788',
  )
    .option('--host <address>', 'the address to listen on; another than loopback needs a key')
    .option('--port <n>', 'the port to listen on; 0 takes a free one', whole(0, 65_535));
  actConfigured(
    serve,
    (flags) => ({ serve: pick('host', 'port')(flags) }),
    async (context) => (await import('./commands/serve.ts')).serve(context),
  );

  const status = command(program, 'status', 'say whether all is well, and what is not', 'nexus status --json')
    .option('--alert', 'also send what alerts are due; for a timer')
    .option('--json', 'print one JSON object');
  actConfigured(status, pick(), async (context, flags) =>
    (await import('./commands/status.ts')).status(context, { alert: flags['alert'] === true }),
  );

  declareUsage(program, { command, run: (command, run) => actConfigured(command, pick(), run) });
  declareAlerts(program, {
    command,
    run: (command, run) => actConfigured(command, pick(), run),
    runBare: act,
  });
  declareInstall(program, { command, act });
  declareStore(program.command('store').description('what holds the data'));
  declareSessions(program.command('sessions').description('what the archive holds'));
  declareWebhooks(program.command('webhooks').description('what services outside sent, and their URLs'), {
    command,
    run: (command, run) => actConfigured(command, pick(), run),
  });
  declarePutio(
    program.command('putio').description("put.io's transfers: its callback, and what it did not call"),
    {
      command,
      run: (command, run) => actConfigured(command, pick(), run),
    },
  );
  declareKeys(program.command('keys').description('who may call `nexus serve`'));
  declareConfig(program.command('config').description('read and change the configuration file'));

  function declareSessions(group: Command): void {
    const list = command(group, 'list', 'list the transcripts', 'nexus sessions list --agent main')
      .option('--agent <id>', 'only this agent, by its id in Nexus')
      .option('--json', 'print one JSON object');
    actConfigured(list, pick(), async (context, flags) =>
      (await import('./commands/sessions.ts')).list(context, { agent: textIn(flags, 'agent') }),
    );

    const show = command(
      group,
      'show <transcript>',
      'show the index card of a transcript, named `agent/transcript` or with --agent',
      'nexus sessions show main/4f3c2a1b-0d9e-4c8b-a7f6-5e4d3c2b1a09',
    )
      .option('--agent <id>', 'its agent, by its id in Nexus')
      .option('--json', 'print one JSON object');
    actConfigured(show, pick(), async (context, flags, [name = '']) =>
      (await import('./commands/sessions.ts')).show(context, { name, agent: textIn(flags, 'agent') }),
    );

    const get = command(
      group,
      'get <transcript>',
      'write the bytes of a transcript, named `agent/transcript` or with --agent, to stdout or a file',
      'nexus sessions get main/4f3c2a1b-0d9e-4c8b-a7f6-5e4d3c2b1a09 -o session.jsonl',
    )
      .option('--agent <id>', 'its agent, by its id in Nexus')
      .option('-o, --output <file>', 'write to this file, which must not exist')
      .option('--json', 'print one JSON object; needs --output');
    actConfigured(get, pick(), async (context, flags, [name = '']) =>
      (await import('./commands/sessions.ts')).get(context, {
        name,
        agent: textIn(flags, 'agent'),
        file: textIn(flags, 'output'),
      }),
    );
  }

  function declareStore(group: Command): void {
    const check = command(
      group,
      'check',
      'write, read, race and remove a probe in each container and table, and say what is missing',
      'nexus store check',
    ).option('--json', 'print one JSON object');
    actConfigured(check, pick(), async (context) => (await import('./commands/store.ts')).check(context));

    const copy = command(
      group,
      'copy',
      'copy all that one store holds to another, compared by digest; run again to go on',
      'nexus store copy --from local --to azure',
    )
      .addOption(
        new Option('--from <store>', 'where it is').choices(['local', 'azure']).makeOptionMandatory(),
      )
      .addOption(
        new Option('--to <store>', 'where it goes').choices(['local', 'azure']).makeOptionMandatory(),
      )
      .option('--verify', 'also read again what was compared by an earlier run')
      .option('--concurrency <n>', 'how many blobs or rows at once', whole(1, 64))
      .option('--json', 'print one JSON object');
    actConfigured(copy, pick('concurrency'), async (context, flags) => {
      const command = await import('./commands/store.ts');
      const kind = (name: string) => (textIn(flags, name) === 'azure' ? 'azure' : 'local');
      const verify = flags['verify'] === true;
      return command.copy(context, { from: kind('from'), to: kind('to'), verify });
    });
  }

  function declareKeys(group: Command): void {
    const add = command(
      group,
      'add <name>',
      'make a key and print it, once; the configuration keeps its hash',
      'nexus keys add laptop --agents main,work --scopes upload,read',
    )
      .option('--agents <ids>', 'the agents it is good for, separated by commas (default: all)', commas)
      .option('--scopes <scopes>', 'of upload, pull, webhook and read (default: all)', commas)
      .option('--print-config', "print all keys, hashed, for the replicas' environment; keep nothing here")
      .option('--json', 'print {"name", "key"}');
    act(add, async (given, flags, [name = '']) => {
      const [agents, scopes] = [flags['agents'], flags['scopes']].map((list) =>
        Array.isArray(list) ? list.map(String) : undefined,
      );
      const printConfig = flags['printConfig'] === true;
      return (await import('./commands/keys.ts')).add(given, { name, agents, scopes, printConfig });
    });

    const list = command(group, 'list', 'list the keys', 'nexus keys list').option(
      '--json',
      'print one JSON object',
    );
    actConfigured(list, pick(), async (context) => (await import('./commands/keys.ts')).list(context));

    const remove = command(
      group,
      'remove <name>',
      'make a key good for nothing',
      'nexus keys remove laptop',
    ).option('--json', 'print one JSON object');
    act(remove, async (given, _, [name = '']) =>
      (await import('./commands/keys.ts')).remove(given, { name }),
    );
  }

  function declareConfig(group: Command): void {
    const get = command(
      group,
      'get <setting>',
      'print a setting as it is in effect',
      'nexus config get retry.tries',
    ).option('--json', 'print one JSON object');
    actConfigured(get, pick(), async (context, _, [setting = '']) =>
      (await import('./commands/config.ts')).get(context, { setting }),
    );

    const set = command(
      group,
      'set <setting> <value>',
      'write a setting, as JSON or text, to the file',
      'nexus config set agents.main.as box1-main',
    ).option('--json', 'print one JSON object');
    act(set, async (given, _, [setting = '', value = '']) =>
      (await import('./commands/config.ts')).set(given, { setting, value }),
    );

    const unset = command(
      group,
      'unset <setting>',
      'take a setting out of the file',
      'nexus config unset endpoint',
    ).option('--json', 'print one JSON object');
    act(unset, async (given, _, [setting = '']) =>
      (await import('./commands/config.ts')).unset(given, { setting }),
    );

    const list = command(
      group,
      'list',
      'print all settings as they are in effect, without secrets',
      'nexus config list',
    ).option('--json', 'print one JSON object');
    actConfigured(list, pick(), async (context) => (await import('./commands/config.ts')).list(context));

    const path = command(group, 'path', 'print where the configuration file is', 'nexus config path').option(
      '--json',
      'print one JSON object',
    );
    act(path, async (given) => (await import('./commands/config.ts')).path(given));
  }
}

function pathOf(command: Command): string {
  const above = command.parent === null || command.parent.parent === null ? '' : `${pathOf(command.parent)} `;
  return above + command.name();
}

/** The command that a command line which makes no sense was probably about. */
function nameIn(program: Command, argv: readonly string[]): string {
  let command = program;
  for (const word of argv) {
    const next = command.commands.find((one) => one.name() === word);
    if (next !== undefined) command = next;
  }
  return command === program ? '' : pathOf(command);
}

function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--');
  return (end === -1 ? argv : argv.slice(0, end)).includes('--json');
}

/** The same flags, on a command line that could not be read. */
function logWanted(argv: readonly string[]): LogSettings {
  const value = (flag: string) =>
    argv
      .flatMap((word, n) => {
        if (word === flag) return argv[n + 1] ?? [];
        return word.startsWith(`${flag}=`) ? word.slice(flag.length + 1) : [];
      })
      .at(-1);
  return logIn(value('--log-level'), value('--log-format'));
}

/** Commander's complaint, as one sentence of ours. */
function sentenceOf(error: CommanderError, name: string): NexusError {
  const [complaint = '', advice] = error.message.replace(/^error: /, '').split('\n');
  const sentence = withoutValues(complaint);
  const near = advice === undefined ? '' : ` ${advice.replace(/^\(|\)$/g, '')}`;
  return new NexusError('usage', sentence + near, {
    hint: `See \`nexus ${name === '' ? '' : `${name} `}--help\`.`,
  });
}

/** What was mistyped may be a secret in the wrong place: only what is short enough to be none is repeated. */
function withoutValues(text: string): string {
  const complaint = text
    .replace(/(Expected \d+ arguments?) but got (\d+): .*$/s, '$1 but got $2')
    .replace(/'([^']{33,})'/gs, "'…'");
  return `${complaint.charAt(0).toUpperCase()}${complaint.slice(1).replace(/\.$/, '')}.`;
}
