import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf } from '../diskerrors.ts';
import { NexusError } from '../errors.ts';
import type { Mode } from './systemctl.ts';

/**
 * How a file stands to the text that belongs there: `same`, `absent`, `older` (Nexus wrote it, with another text),
 * `edited` (Nexus wrote it, and somebody changed it since; `outdated` when the text belonging there changed too), or
 * `foreign`.
 */
export type Standing = 'same' | 'absent' | 'older' | 'edited' | 'outdated' | 'foreign';

const marker =
  /^# Written by `nexus install`; sha256 ([0-9a-f]{64}) of what follows\. Keep changes in a drop-in\.\n/;

/** Where an administrator's units lie, or a user's. */
export function unitDirectory(mode: Mode, env: Record<string, string | undefined>): string {
  if (mode === 'system') return '/etc/systemd/system';
  const said = env['XDG_CONFIG_HOME'];
  const config =
    said !== undefined && path.isAbsolute(said) ? said : path.join(env['HOME'] ?? '/', '.config');
  return path.join(config, 'systemd', 'user');
}

/** The text with a line before it that tells Nexus's own files from those that somebody changed. */
export function marked(text: string): string {
  return `# Written by \`nexus install\`; sha256 ${sha256(text)} of what follows. Keep changes in a drop-in.\n${text}`;
}

export async function standingOf(file: string, text: string): Promise<Standing> {
  const found = await contentOf(file);
  if (found === undefined) return 'absent';
  if (found === marked(text)) return 'same';
  const hash = marker.exec(found)?.[1];
  if (hash === undefined) return 'foreign';
  if (hash === sha256(found.replace(marker, ''))) return 'older';
  return hash === sha256(text) ? 'edited' : 'outdated';
}

/** Whether Nexus wrote the file as it is. */
export async function ownership(file: string): Promise<'ours' | 'edited' | 'foreign' | 'absent'> {
  const found = await contentOf(file);
  if (found === undefined) return 'absent';
  const hash = marker.exec(found)?.[1];
  if (hash === undefined) return 'foreign';
  return hash === sha256(found.replace(marker, '')) ? 'ours' : 'edited';
}

/** All of it or nothing, mode 644. */
export async function writeMarked(file: string, text: string): Promise<void> {
  try {
    await mkdir(path.dirname(file), { recursive: true });
    const temporary = temporaryOf(file);
    await writeFile(temporary, marked(text), { mode: 0o644 });
    await rename(temporary, file);
  } catch (error) {
    throw refused(file, error);
  }
}

/** With what a write that was killed may have left beside it. */
export async function removeFile(file: string): Promise<void> {
  try {
    await rm(file, { force: true });
    await rm(temporaryOf(file), { force: true });
  } catch (error) {
    throw refused(file, error);
  }
}

function temporaryOf(file: string): string {
  return path.join(path.dirname(file), `.${path.basename(file)}.new`);
}

async function contentOf(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw refused(file, error);
  }
}

function refused(file: string, error: unknown): unknown {
  const errno = errnoOf(error);
  if (errno === undefined) return error;
  return new NexusError('forbidden', `${file} cannot be read or written (${errno}).`, { cause: error });
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
