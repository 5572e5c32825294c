import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { newWorld, type World } from '../world.ts';
import { ask } from './asked.ts';
import { filesWith, plantCanaries } from './canaries.ts';
import { lookers, runOver } from './commands.ts';
import { fileAgent, rowAgent, strangeAgents, transcriptsOf, type Written } from './history.ts';
import { shortOf } from './judge.ts';
import type { Notes } from './notes.ts';

const fixture = path.resolve(
  import.meta.dirname,
  '..',
  '..',
  'fixtures',
  'openclaw',
  'sqlite-2026.9.6',
  'agents',
  'research',
  'agent',
  'openclaw-agent.sqlite',
);

/** A hostile history of both eras through backfill, upload and all that looks at it, and its pages. */
export async function archiveHostile(
  root: string,
  notes: Notes,
  seed: number,
  count: number,
  random: () => number,
): Promise<void> {
  const world = await newWorld(root);
  await world.configure({ host: 'proof', notify: { by: 'none' }, settleMinutes: 0, log: { format: 'text' } });
  const canaries = await plantCanaries(
    root,
    world.home,
    [world.dataDir, world.stateDir],
    randomBytes(9).toString('hex'),
  );
  const transcripts = transcriptsOf(seed, count);
  const written = new Map<string, Written>([
    ['files', await fileAgent(world.stateDir, 'files', transcripts, canaries.file)],
    ['rows', await rowAgent(world.stateDir, 'rows', fixture, transcripts, random)],
  ]);
  await strangeAgents(world.stateDir, canaries.file);
  notes.count('hostile transcripts, two eras', 2 * transcripts.length);
  const names = await readdir(path.join(world.stateDir, 'agents', 'files', 'sessions'));
  notes.count('hostile file names', names.length);
  notes.count('hostile agent names', (await readdir(path.join(world.stateDir, 'agents'))).length);
  for (const args of [
    ['backfill', '--all'],
    ['upload', '--json'],
    ['backfill', '--verify', '--json'],
    ...lookers,
  ])
    await runOver(world, notes, args);
  for (const one of await canaries.touched())
    notes.broken('A path outside its root was touched.', `by a job over hostile history: ${one}`);
  for (const file of await filesWith(world.dataDir, canaries.secret))
    notes.broken('A file outside its root was stored.', path.relative(world.home, file));
  await compare(world, notes, written, canaries.secret);
}

/** What is in the archive is what was written, and its pages are pages. */
async function compare(
  world: World,
  notes: Notes,
  written: Map<string, Written>,
  secret: string,
): Promise<void> {
  const serving = await world.serve({ NEXUS_LOG_FORMAT: 'json' });
  try {
    const { hostname, port } = new URL(serving.url);
    const door = { host: hostname, port: Number(port) };
    for (const [agent, transcripts] of written)
      for (const [name, bytes] of transcripts) {
        const stored = await ask(door, { method: 'GET', url: `/api/sessions/${agent}/${name}`, headers: [] });
        notes.count('hostile transcripts compared byte for byte');
        if (stored?.status !== 200 || !stored.body.equals(bytes))
          notes.broken(
            'A hostile transcript is not in the archive as it was.',
            `${agent}/${name}: ${stored?.body.length ?? 0} of ${bytes.length} bytes, ${shortOf(stored)}; ${JSON.stringify(bytes.toString('latin1').slice(0, 300))}`,
          );
        const page = await ask(door, { method: 'GET', url: `/sessions/${agent}/${name}`, headers: [] });
        const markup = page?.body.toString('utf8') ?? '';
        notes.count('pages of hostile data');
        const policy = page?.headers.get('content-security-policy') ?? '';
        if (page?.status !== 200)
          notes.broken('A page of hostile data is not shown.', `${agent}/${name}: ${shortOf(page)}`);
        else if (
          markup.includes('<nexus-xss') ||
          /(?:href|src|action)="?\s*(?:javascript|data):/i.test(markup) ||
          !policy.startsWith("default-src 'none';")
        )
          notes.broken('A page holds markup that came from outside.', `${agent}/${name}`);
        if (markup.includes(secret))
          notes.broken('A page shows a file outside its root.', `${agent}/${name}`);
      }
    for (const url of [
      '/',
      '/usage',
      '/sessions',
      '/webhooks',
      '/metrics',
      '/api/usage?by=agent,model',
      '/api/usage/sessions',
    ]) {
      const page = await ask(door, { method: 'GET', url, headers: [] });
      if (page?.status !== 200 || page.body.toString('utf8').includes('<nexus-xss onload')) {
        const json =
          page?.headers.get('content-type')?.startsWith('application/json') === true && page.status === 200;
        if (!json)
          notes.broken('A page of hostile data is not shown as it should be.', `${url}: ${shortOf(page)}`);
      }
    }
  } finally {
    serving.kill('SIGTERM');
  }
  const { stderr, status, signal } = await serving.ended;
  if (signal !== null || status !== 143)
    notes.broken('The endpoint did not end as it was told.', `${status} ${signal}`);
  for (const line of stderr.split('\n'))
    if (line.includes('"level":"error"')) notes.broken('The log tells of a bug.', line.slice(0, 1500));
}
