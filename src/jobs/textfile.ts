import { randomUUID } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { NexusError } from '../errors.ts';
import type { Series } from '../jobreports.ts';

/** Prometheus' text format, version 0.0.4: what a textfile collector reads. Series without samples are left out. */
export function textOf(series: readonly Series[]): string {
  return series
    .filter(({ samples }) => samples.length > 0)
    .map(({ name, help, samples }) =>
      [
        `# HELP ${name} ${help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}`,
        `# TYPE ${name} gauge`,
        ...samples.map(({ labels, value }) => `${name}{${labelsOf(labels)}} ${value}`),
        '',
      ].join('\n'),
    )
    .join('');
}

function labelsOf(labels: Record<string, string>): string {
  return Object.entries(labels)
    .map(([name, value]) => {
      const escaped = value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"');
      return `${name}="${escaped}"`;
    })
    .join(',');
}

/**
 * Puts a file in the place of the one that is there, so that a reader finds the one or the other and never a part.
 * Anybody may read it: the collector is another user. Not synced: after a power cut the next run writes it again.
 */
export async function writeTextfile(file: string, text: string): Promise<void> {
  // The collector reads what ends in .prom and nothing else.
  const temporary = `${file}.${randomUUID()}.tmp`;
  try {
    const handle = await open(temporary, 'wx', 0o644);
    try {
      await handle.writeFile(text);
      // Whatever the umask, which units have at 077.
      await handle.chmod(0o644);
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    const why = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    throw new NexusError('unavailable', `The metrics cannot be written to ${file} (${why}).`, {
      cause: error,
      hint: 'Its directory must be there and this user must be able to write to it; units reach it after `nexus install`.',
    });
  }
}
