import type { Command } from 'commander';
import type { Context } from './context.ts';
import { type Flags, numberIn, since, textIn, whole } from './flags.ts';

/** How the command line declares a subcommand, and one that needs the configuration. */
export interface Declaring {
  command: (parent: Command, usage: string, purpose: string, example: string) => Command;
  run: (
    command: Command,
    run: (context: Context, flags: Flags, names: string[]) => Promise<number | void>,
  ) => void;
}

/** Declares what is below `nexus webhooks`. */
export function declareWebhooks(group: Command, { command, run }: Declaring): void {
  const url = command(
    group,
    'url',
    'print the URL to enter at a sender, and what else; make a secret or a key where there is none',
    'nexus webhooks url --agent main --source github',
  )
    .requiredOption('--agent <id>', 'the agent whose mailbox it goes to, by its id in Nexus')
    .requiredOption('--source <name>', 'who sends: github, stripe, putio, …')
    .option(
      '--verify <way>',
      'how the sender proves itself: github, stripe, slack, standard (Svix too), gitlab, shopify, linear, telegram, twilio, meta, hmac, secret, key or none (default: by the name of the source, else key)',
    )
    .option(
      '--secret-from <place>',
      'where the secret is: env:NAME, file:PATH, credential:NAME, or - for a line of stdin, which the file then keeps',
    )
    .option('--header <name>', 'with --verify hmac: the header that the signature is in')
    .option('--url <base>', 'what services outside call the endpoint by (default: serve.url)')
    .option('--json', 'print one JSON object');
  run(url, async (context, flags) =>
    (await import('./commands/webhookurl.ts')).url(context, {
      agent: textIn(flags, 'agent') ?? '',
      source: textIn(flags, 'source') ?? '',
      verify: textIn(flags, 'verify'),
      secretFrom: textIn(flags, 'secretFrom'),
      header: textIn(flags, 'header'),
      base: textIn(flags, 'url'),
    }),
  );

  const list = choosing(
    command(group, 'list', 'list what came, the newest last', 'nexus webhooks list --pending --limit 20'),
  )
    .option('--pending', 'only what no host has taken yet')
    .option('--history', 'only what was delivered or dropped, up to 30 days ago')
    .option('--limit <n>', 'only the newest so many', whole(1, 999_999_999))
    .option('--json', 'print one JSON object');
  run(list, async (context, flags) => {
    const [pending, history] = [flags['pending'] === true, flags['history'] === true];
    const state = pending === history ? undefined : pending ? 'pending' : 'history';
    const limit = numberIn(flags, 'limit');
    return (await import('./commands/webhooks.ts')).list(context, { ...chosen(flags), state, limit });
  });

  const show = command(
    group,
    'show <id>',
    'show an item and its payload',
    'nexus webhooks show main.0mq5x1k2a0000f3k9q2zd',
  )
    .option('--body', 'write the bytes as they were received to stdout, and nothing else')
    .option('--json', 'print one JSON object');
  run(show, async (context, flags, [id = '']) =>
    (await import('./commands/webhooks.ts')).show(context, { id, body: flags['body'] === true }),
  );

  const replay = choosing(
    command(
      group,
      'replay [ids...]',
      'make items of history pending again, each under a new id',
      'nexus webhooks replay main.0mq5x1k2a0000f3k9q2zd',
    ),
  )
    .option('--yes', 'do so with all that --agent, --source and --since choose')
    .option('--json', 'print one JSON object');
  run(replay, async (context, flags, ids) =>
    (await import('./commands/webhookchange.ts')).replay(context, {
      ...chosen(flags),
      ids,
      yes: flags['yes'] === true,
    }),
  );

  const drop = choosing(
    command(
      group,
      'drop [ids...]',
      'take pending items out, so that no host gets them; they stay in history for 30 days',
      'nexus webhooks drop --agent main --source github --yes',
    ),
  )
    .option('--yes', 'do so with all that --agent, --source and --since choose')
    .option('--json', 'print one JSON object');
  run(drop, async (context, flags, ids) =>
    (await import('./commands/webhookchange.ts')).drop(context, {
      ...chosen(flags),
      ids,
      yes: flags['yes'] === true,
    }),
  );

  const claim = command(
    group,
    'claim',
    "let this host, or another, have an agent's mailbox from now on",
    'nexus webhooks claim --agent main',
  )
    .requiredOption('--agent <id>', 'the agent, by its id in Nexus')
    .option('--host <name>', 'the host that shall have it (default: this one)')
    .option('--json', 'print one JSON object');
  run(claim, async (context, flags) =>
    (await import('./commands/webhooks.ts')).claim(context, {
      agent: textIn(flags, 'agent') ?? '',
      host: textIn(flags, 'host'),
    }),
  );

  const prune = command(
    group,
    'prune',
    'remove what has been in history for 30 days; `nexus serve` does so every hour',
    'nexus webhooks prune',
  ).option('--json', 'print one JSON object');
  run(prune, async (context) => (await import('./commands/webhooks.ts')).prune(context));
}

function choosing(command: Command): Command {
  return command
    .option('--agent <id>', 'only of this agent, by its id in Nexus')
    .option('--source <name>', 'only of this source')
    .option('--since <date>', 'only what was received on or after this date or time', since);
}

function chosen(flags: Flags): {
  agent: string | undefined;
  source: string | undefined;
  since: number | undefined;
} {
  return {
    agent: textIn(flags, 'agent'),
    source: textIn(flags, 'source'),
    since: numberIn(flags, 'since'),
  };
}
