import type { Command } from 'commander';
import type { Declaring } from './webhookline.ts';
import { numberIn, since, textIn } from './flags.ts';

/** Declares what is below `nexus putio`. */
export function declarePutio(group: Command, { command, run }: Declaring): void {
  const register = command(
    group,
    'register',
    "let put.io call an agent's mailbox for every transfer that finishes; run it where `nexus serve` is configured",
    'nexus putio register --agent flickclaw --endpoint-url https://nexus.example.net',
  )
    .requiredOption('--agent <id>', 'the agent, by its id in Nexus')
    .option('--endpoint-url <base>', 'what put.io calls the endpoint by (default: serve.url)')
    .option('--force', 'in the place of a callback that is there, which `unregister` restores')
    .option('--json', 'print one JSON object');
  run(register, async (context, flags) =>
    (await import('./commands/putioregister.ts')).register(context, {
      agent: textIn(flags, 'agent') ?? '',
      base: textIn(flags, 'endpointUrl'),
      force: flags['force'] === true,
    }),
  );

  const unregister = command(
    group,
    'unregister',
    'take our callback away, and restore the one that was there before',
    'nexus putio unregister',
  )
    .option('--forget', 'also forget the one that was there before, where ours is not there to be replaced')
    .option('--json', 'print one JSON object');
  run(unregister, async (context, flags) =>
    (await import('./commands/putiounregister.ts')).unregister(context, { forget: flags['forget'] === true }),
  );

  const status = command(
    group,
    'status',
    'say whom put.io calls, when it last did, which of its calls failed, and when it was last looked through',
    'nexus putio status',
  ).option('--json', 'print one JSON object');
  run(status, async (context) => (await import('./commands/putiostatus.ts')).status(context));

  const reconcile = command(
    group,
    'reconcile',
    'put transfers that finished since the last look and never called back into the mailbox, once',
    'nexus putio reconcile',
  )
    .option('--agent <id>', 'the agent, by its id in Nexus (default: putio.agent)')
    .option('--since <date>', 'look from this date or time on, at most 29 days back', since)
    .option('--force', 'also where put.io does not call this agent any more; --since does so too')
    .option('--json', 'print one JSON object');
  run(reconcile, async (context, flags) =>
    (await import('./commands/putioreconcile.ts')).reconcile(context, {
      agent: textIn(flags, 'agent'),
      since: numberIn(flags, 'since'),
      force: flags['force'] === true,
    }),
  );
}
