import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { execa } from 'execa';

const project = path.resolve(import.meta.dirname, '..');

/** Before all tests: the built binary is that of the sources as they are. */
export async function setup(): Promise<void> {
  const built = await changedAt(path.join(project, 'dist', 'main.js'));
  const sources = await readdir(path.join(project, 'src'), { recursive: true });
  const files = [
    'package.json',
    '.ci/build.ts',
    ...sources.filter((file) => /\.(ts|css|svg)$/.test(file)).map((file) => `src/${file}`),
  ];
  const changes = await Promise.all(files.map((file) => changedAt(path.join(project, file))));
  if (Math.max(...changes) >= built) await execa('npm', ['run', 'build'], { cwd: project });
}

/** ms since 1970; 0 for what does not exist. */
async function changedAt(file: string): Promise<number> {
  return (await stat(file, { throwIfNoEntry: false }))?.mtimeMs ?? 0;
}
