// `npm run prove [-- --minutes N --seed N --out DIR PART…]`: crashes, faults, hostile input and load, and what was
// measured. Writes REPORT.md and report.json; ends with 1 where a promise did not hold. The long form, without --minutes,
// takes four hours, and 4 minutes are the short form of CI. Of named parts alone the report is renewed, and keeps what it
// has of the others.
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { machineOf } from './machine.ts';
import type { Part, Result } from './part.ts';
import { joined, type Proved, type Report, reportOf } from './report.ts';
import { readCaught } from './seeds/caught.ts';

// In the order of the report; each is loaded when it runs.
const parts: Record<string, () => Promise<Part>> = {
  kill: async () => (await import('./kill.ts')).kill,
  operations: async () => (await import('./operations.ts')).operations,
  network: async () => (await import('./network.ts')).network,
  crashstates: async () => (await import('./crashstates.ts')).crashstates,
  rot: async () => (await import('./rot.ts')).rot,
  hostile: async () => (await import('./hostile.ts')).hostile,
  load: async () => (await import('./load.ts')).load,
  speed: async () => (await import('./speed.ts')).speed,
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    minutes: { type: 'string', default: '232' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    out: { type: 'string', default: import.meta.dirname },
  },
});
const minutes = Number(values.minutes);
const seed = Number(values.seed);
const unknown = positionals.filter((name) => parts[name] === undefined);
if (unknown.length > 0 || !(minutes > 0) || !Number.isSafeInteger(seed)) {
  process.stderr.write(
    unknown.length > 0
      ? `There is no part ${unknown.join(', ')}; there are ${Object.keys(parts).join(', ')}.\n`
      : 'Give --minutes as a number above 0 and --seed as a whole number.\n',
  );
  process.exitCode = 64;
} else await prove(positionals.length > 0 ? positionals : Object.keys(parts));

async function prove(names: string[]): Promise<void> {
  const all = names.length === Object.keys(parts).length;
  const machine = await machineOf();
  const chosen = await Promise.all(names.map(async (name) => await parts[name]?.()));
  const wanted = chosen.filter((part) => part !== undefined);
  const shares = wanted.reduce((sum, { share }) => sum + share, 0);
  const proved: Proved[] = [];
  for (const part of wanted) {
    const given = minutes * (part.share / shares);
    process.stderr.write(`prove: ${part.name}, ${given.toFixed(1)} minutes\n`);
    const from = Date.now();
    const result = await within(part, from + given * 60_000);
    for (const { what, again } of result.broken) process.stderr.write(`BROKEN: ${what}\n  again: ${again}\n`);
    proved.push({
      name: part.name,
      promise: part.promise,
      began: new Date(from).toISOString(),
      seconds: (Date.now() - from) / 1000,
      seed,
      machine,
      ...result,
    });
    // After each part, so that what was seen is kept whatever becomes of the next.
    await write({
      parts: joined(all ? [] : await partsBefore(), proved, Object.keys(parts)),
      caught: await readCaught(),
    });
  }
  const broken = proved.reduce((sum, part) => sum + part.broken.length, 0);
  process.stdout.write(
    broken === 0
      ? `Every promise held: ${proved.map(({ name }) => name).join(', ')}.\n`
      : `${broken} broken, see ${path.join(values.out, 'REPORT.md')}.\n`,
  );
  if (broken > 0) process.exitCode = 1;
}

async function within(part: Part, deadline: number): Promise<Result> {
  const directory = await mkdtemp(path.join(tmpdir(), `nexus-prove-${part.name}-`));
  const say = (line: string): void => void process.stderr.write(`  ${line}\n`);
  try {
    return await part.run({ directory, deadline, seed, say });
  } catch (error) {
    // A part that cannot go on has shown nothing.
    const what = `The part ${part.name} did not run to its end.`;
    const again = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { counts: [], broken: [{ what, again }], left: [] };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function partsBefore(): Promise<Proved[]> {
  const text = await readFile(path.join(values.out, 'report.json'), 'utf8').catch(() => undefined);
  if (text === undefined) return [];
  const report: Report = JSON.parse(text);
  return report.parts;
}

async function write(report: Report): Promise<void> {
  await mkdir(values.out, { recursive: true });
  await writeFile(path.join(values.out, 'report.json'), `${JSON.stringify(report, undefined, 2)}\n`);
  await writeFile(path.join(values.out, 'REPORT.md'), reportOf(report));
}
