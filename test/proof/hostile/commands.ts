import type { Notes } from './notes.ts';
import type { Ran, World } from '../world.ts';

/** Ends that a command may come to: see the exit statuses in README; 1 is a bug, a signal is a crash. */
const ends = new Set([0, 3, 64, 69, 75, 77, 78]);
const controls =
  // oxlint-disable-next-line no-control-regex
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])/;

/** Runs a command over hostile data: it ends as commands end, and what it writes controls no terminal. */
export async function runOver(
  world: World,
  notes: Notes,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Ran> {
  const ran = await world.run(args, env);
  const shown = `nexus ${args.join(' ')}`;
  notes.count('commands over hostile data');
  const tail = `${shown}: ${ran.stderr.slice(-1500)}`;
  if (ran.signal === 'SIGKILL') notes.broken('A command does not come to an end.', tail);
  else if (ran.signal !== null) notes.broken('A command crashed.', `${ran.signal} ${tail}`);
  else if (!ends.has(ran.status ?? -1)) notes.broken('A command ended by a bug.', `${ran.status} ${tail}`);
  if (ran.stderr.includes('internal error')) notes.broken('A command tells of a bug.', tail);
  for (const [name, text] of [
    ['stdout', ran.stdout],
    ['stderr', ran.stderr],
  ] as const)
    for (const line of text.split('\n')) {
      // A CSV that is not for a terminal is bytes for a program, and a value in it may go on in the next line.
      if (name === 'stdout' && args.includes('--csv')) continue;
      const control = controls.exec(line);
      if (control !== null)
        notes.broken(
          'A command writes what controls a terminal.',
          `${shown}, ${name}: ${JSON.stringify(line.slice(Math.max(0, control.index - 200), control.index + 100))}`,
        );
      if (line.startsWith('FORGED'))
        notes.broken(
          'Data begins a line of its own in the output.',
          `${shown}, ${name}: ${JSON.stringify(line.slice(0, 300))}`,
        );
    }
  if (args.includes('--json') && ran.status === 0 && !isJson(ran.stdout))
    notes.broken('--json is no JSON.', `${shown}: ${ran.stdout.slice(0, 300)}`);
  return ran;
}

/** What looks at the archive and the mailboxes. */
export const lookers: readonly (readonly string[])[] = [
  ['sessions', 'list'],
  ['sessions', 'list', '--json'],
  ['webhooks', 'list'],
  ['usage', '--by', 'agent,model,provider,session,trigger,host'],
  ['usage', '--by', 'day,source,job', '--json'],
  ['usage', '--by', 'provider,model', '--csv'],
  ['usage', 'top'],
  ['status'],
  ['status', '--json'],
];

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    // That it is none is the answer.
    return false;
  }
}
