// `node test/proof/seeds/catch.ts [--minutes N] [--seed N] [PART…]`: puts each seeded bug into a copy of the project and
// runs the part that must catch it there. Writes caught.json, which the report shows, and keeps what that has of parts
// that are not tried; ends with 1 where one is not caught.
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import type { Report } from '../report.ts';
import { type Caught, keepCaught } from './caught.ts';
import type { Seed } from './seed.ts';

const run = promisify(execFile);
const project = path.resolve(import.meta.dirname, '..', '..', '..');
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { minutes: { type: 'string', default: '2' }, seed: { type: 'string', default: '1' } },
});

const caught: Caught[] = [];
for (const file of (await readdir(import.meta.dirname)).sort()) {
  if (!file.endsWith('.ts') || ['seed.ts', 'catch.ts', 'caught.ts'].includes(file)) continue;
  const { seeds }: { seeds: Seed[] } = await import(`./${file}`);
  for (const seed of seeds) {
    if (positionals.length > 0 && !positionals.includes(seed.part)) continue;
    const one = await tried(seed);
    process.stderr.write(
      `${one.by === undefined ? 'NOT CAUGHT' : 'caught'}: ${seed.name} (${seed.part}) ${one.by ?? ''}\n`,
    );
    caught.push(one);
  }
}
await keepCaught(caught);
const missed = caught.filter(({ by }) => by === undefined);
process.stdout.write(`${caught.length - missed.length} of ${caught.length} seeded bugs were caught.\n`);
if (missed.length > 0) process.exitCode = 1;

async function tried(seed: Seed): Promise<Caught> {
  const scratch = await mkdtemp(path.join(tmpdir(), 'nexus-seed-'));
  try {
    for (const name of [
      '.ci',
      'bin',
      'src',
      'test/proof',
      'test/bench',
      'test/fixtures',
      'test/stores',
      'package.json',
      'tsconfig.json',
    ]) {
      await mkdir(path.dirname(path.join(scratch, name)), { recursive: true });
      await cp(path.join(project, name), path.join(scratch, name), { recursive: true });
    }
    await symlink(path.join(project, 'node_modules'), path.join(scratch, 'node_modules'));
    await plant(seed, scratch);
    await run('npm', ['run', '--silent', 'build'], { cwd: scratch });
    const out = path.join(scratch, 'out');
    const args = [
      'test/proof/prove.ts',
      seed.part,
      '--minutes',
      values.minutes,
      '--seed',
      values.seed,
      '--out',
      out,
    ];
    // It ends with 1 where it sees what it shall see.
    await run(process.execPath, args, { cwd: scratch, maxBuffer: 1 << 28 }).catch(() => undefined);
    const report: Report = JSON.parse(await readFile(path.join(out, 'report.json'), 'utf8'));
    const broken = report.parts.flatMap((part) => part.broken);
    const by = broken[0]?.what;
    return {
      seed: seed.name,
      file: seed.file,
      part: seed.part,
      broken: broken.length,
      ...(by === undefined ? {} : { by }),
    };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function plant({ name, file, find, replace }: Seed, scratch: string): Promise<void> {
  const source = path.join(scratch, file);
  const text = await readFile(source, 'utf8');
  if (text.split(find).length !== 2)
    throw new Error(`What the seed "${name}" replaces is not in ${file} once.`);
  await writeFile(
    source,
    text.replace(find, () => replace),
  );
}
