import { chmod, writeFile } from 'node:fs/promises';
import path from 'node:path';
import * as fc from 'fast-check';
import { checkSettings, loadConfig } from '../../../src/config.ts';
import { NexusError } from '../../../src/errors.ts';
import { ask } from './asked.ts';
import { runOver } from './commands.ts';
import { changed, json, nastyJson, nested, text } from './nasty.ts';
import type { Notes } from './notes.ts';
import type { Stand } from './stand.ts';

const key = { name: 'k', hash: '0'.repeat(64), agents: ['a'], scopes: ['read'] };

/** A setting of each kind, of which hostile ones change one place. */
export const everySetting = {
  dataDir: '/nowhere/data',
  endpoint: 'http://127.0.0.1:9',
  apiKey: 'SECRET-OF-SETTINGS',
  host: 'h',
  openclaw: { stateDir: '/nowhere/state' },
  agents: { main: { as: 'main', skip: false, notify: 'none' } },
  notify: {
    by: 'none',
    hooksUrl: 'http://127.0.0.1:9',
    hooksToken: 'SECRET-OF-SETTINGS',
    waitSeconds: 1,
    inlineBytes: 1,
  },
  afterUpload: 'keep',
  settleMinutes: 1,
  archiveAfterHours: 1,
  maxTranscriptBytes: 0,
  concurrency: 1,
  chunkBytes: 1000,
  retry: { tries: 1, baseMs: 1, maxMs: 1 },
  serve: { host: '127.0.0.1', port: 0, url: 'https://x.example', trustProxy: 0 },
  keys: [key],
  mailboxes: {
    a: {
      maxItems: 1,
      maxBytes: 1,
      sources: {
        s: {
          verify: 'hmac',
          secret: ['SECRET-OF-SETTINGS'],
          hmac: { header: 'x', signed: '{body}' },
          delivery: { json: 'a.b' },
        },
      },
    },
  },
  alerts: { channels: [{ name: 'c', kind: 'webhook', url: 'http://127.0.0.1:9' }] },
  budgets: {},
  prices: [{ provider: 'p', model: 'm', input: 1, output: 1, cacheRead: 1, cacheWrite: 1 }],
  log: { level: 'info', format: 'text' },
  metrics: { textfile: '/nowhere/x.prom' },
  store: { kind: 'local', prefix: 'a', timeoutMs: 1000 },
};

/** Files of settings: parsed or refused with a sentence, by what reads them here and by the binary. */
export async function readHostileSettings(
  stand: Stand,
  notes: Notes,
  { directory, seed, count, spawns }: { directory: string; seed: number; count: number; spawns: number },
): Promise<void> {
  const file = path.join(directory, 'settings.json');
  const content = fc.oneof({ weight: 6, arbitrary: changed(everySetting) }, json, text);
  const samples = [
    ...nastyJson,
    nested(100_000),
    nested(100_001),
    ...fc.sample(content, { numRuns: count, seed }),
  ];
  for (const sample of samples) {
    await writeFile(file, sample, { mode: 0o600 });
    await chmod(file, 0o600);
    notes.count('hostile configurations');
    try {
      await loadConfig({ env: { HOME: directory }, file });
      const settings: Record<string, unknown> = JSON.parse(sample);
      checkSettings(settings, { HOME: directory });
    } catch (error) {
      if (!(error instanceof NexusError))
        notes.broken(
          'A configuration is not refused with a sentence.',
          `${String(error)}: ${sample.slice(0, 600)}`,
        );
      else if (error.message.includes('SECRET-OF-SETTINGS'))
        notes.broken('A refusal of a configuration shows a secret.', sample.slice(0, 600));
    }
    if ('polluted' in {})
      notes.broken('A configuration changed the prototype of everything.', sample.slice(0, 600));
  }
  for (const [nth, sample] of samples.slice(-spawns).entries()) {
    await writeFile(file, sample);
    const args =
      [['config', 'list'], ['status', '--json'], ['upload'], ['config', 'get', '__proto__.polluted']][
        nth % 4
      ] ?? [];
    const { stdout, stderr } = await runOver(stand.world, notes, args, { NEXUS_CONFIG: file });
    if (`${stdout}${stderr}`.includes('SECRET-OF-SETTINGS'))
      notes.broken('A command shows a secret of the configuration.', sample.slice(0, 600));
  }
}

/** A configuration that turns hostile while the endpoint runs opens nothing and ends nothing. */
export async function turnHostile(stand: Stand, notes: Notes, seed: number): Promise<void> {
  const samples = [...nastyJson.slice(0, 12), ...fc.sample(changed(stand.settings), { numRuns: 12, seed })];
  const before = { method: 'GET', url: '/api/store' };
  for (const sample of samples) {
    await writeFile(path.join(stand.world.home, 'config.json'), sample);
    await new Promise((resolve) => setTimeout(resolve, 40));
    const answer = await ask(stand.door, { ...before, headers: [] });
    notes.count('configurations that change under the endpoint');
    if (answer?.status !== 401)
      notes.broken(
        'A changed configuration lets in who has no key.',
        `${answer?.status ?? 'no answer'}: ${sample.slice(0, 600)}`,
      );
    if (stand.gone()) notes.broken('The endpoint ended.', sample.slice(0, 600));
  }
  await stand.world.configure(stand.settings);
  await new Promise((resolve) => setTimeout(resolve, 40));
  const answer = await ask(stand.door, { ...before, headers: [['x-functions-key', stand.keys.alpha]] });
  if (answer?.status !== 200)
    notes.broken('A configuration that is right again is not taken.', String(answer?.status));
}
