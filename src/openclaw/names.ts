import type { Kind } from './source.ts';

/** What a file name says. A name that fits no rule is `ignored`, and `expected` says whether that is in order. */
export type Named = NamedTranscript | Ignored;

export interface NamedTranscript {
  kind: Extract<Kind, 'plain' | 'reset' | 'deleted' | 'checkpoint' | 'backup' | 'corrupt'>;
  /** The transcript's own name: the session id, with its topic where it has one. Goes through `transcriptOf`. */
  sessionName: string;
  sessionId: string;
  /** When it was reset or deleted, ms since 1970. */
  closedAt?: number;
  /** The generation that the SQLite era adds to a closed file's name. */
  generation?: string;
  /** The file is one zstd frame. */
  compressed: boolean;
}

export interface Ignored {
  ignored: string;
  /** OpenClaw makes such files; otherwise it looks like a transcript and is named to the user. */
  expected: boolean;
}

export interface NamedImport {
  kind: NamedTranscript['kind'] | 'imported';
  sessionName: string;
  sessionId: string;
  compressed: boolean;
  /** When `doctor` moved it there, ms since 1970. */
  importedAt: number;
  /** False: the id may have dots and the key before it too, so that the header has to tell. */
  certain: boolean;
}

const uuid = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}';
const stamp = '\\d{4}-\\d{2}-\\d{2}T\\d{2}-\\d{2}-\\d{2}(?:\\.\\d{3})?Z';

// Each begins with a greedy group: what counts is the last marker, since ids may contain dots.
const closedName = new RegExp(`^(.+)\\.jsonl\\.(reset|deleted)\\.(${stamp})(?:\\.([0-9a-f]{32}))?$`, 's');
const backupName =
  /^(.+)\.jsonl\.(?:bak(?:\.[0-9TZ.-]+|-\d+-\d+)?|pre-doctor-[a-z-]+-[0-9TZ-]+\.bak|migrated(?:\.\d+)?)$/s;
const corruptName = /^(.+)\.jsonl\.corrupt-[0-9TZ.:-]+-[0-9a-f]+\.jsonl$/s;
const checkpointName = new RegExp(`^(.+)\\.checkpoint\\.${uuid}\\.jsonl$`, 'is');
const trajectoryName = /\.trajectory(?:\.jsonl|-path\.json)$/;
const plainName = /^(.+)\.jsonl$/s;
const forkName = new RegExp(`^\\d{4}-\\d{2}-\\d{2}T\\d{2}-\\d{2}-\\d{2}(?:[.-]\\d{3})?Z_(${uuid})$`, 'i');
const importName = /^(.+)\.imported-(\d+)(?:\.\d+)?$/s;
const wholeUuid = new RegExp(`^${uuid}(?:-topic-[^.]+)?$`, 'i');

/** Reads a file name of a `sessions/` directory. Pure: the file is not looked at. */
export function parseName(name: string): Named {
  if (name.startsWith('.')) return hidden(name);
  const compressed = name.endsWith('.zst');
  const bare = compressed ? name.slice(0, -'.zst'.length) : name;

  const closed = closedName.exec(bare);
  if (closed) return parseClosed(closed, compressed);
  const backup = backupName.exec(bare);
  if (backup) return copyOf(backup[1] ?? '', 'backup', compressed);
  // These are written uncompressed only.
  if (!compressed) {
    if (trajectoryName.test(name)) return { ignored: 'a trace, not a transcript', expected: true };
    const checkpoint = checkpointName.exec(name);
    if (checkpoint) return copyOf(checkpoint[1] ?? '', 'checkpoint', false);
    const corrupt = corruptName.exec(name);
    if (corrupt) return copyOf(corrupt[1] ?? '', 'corrupt', false);
    const plain = plainName.exec(name);
    if (plain) return { kind: 'plain', ...identify(plain[1] ?? ''), compressed: false };
  }
  return noise(name);
}

/** A name in `archive/`: the name it had in `sessions/`, with `~2`, `~3`, … where that was taken. */
export function parseArchivedName(name: string): Named {
  return parseName(name.replace(/~(?:[2-9]|[1-9]\d+)$/, ''));
}

/** A name in `session-sqlite-import-archive/`: `<session key, cleaned>.<name in sessions/>.imported-<ms>`. */
export function parseImportName(name: string): NamedImport | Ignored {
  const imported = importName.exec(name);
  if (!imported) return noise(name);
  const named = parseName(imported[1] ?? '');
  if ('ignored' in named) return named;
  const base = named.sessionName;
  const tail = base.slice(base.lastIndexOf('.') + 1);
  const kind =
    named.kind === 'reset' || named.kind === 'deleted' || named.kind === 'plain' ? 'imported' : named.kind;
  return {
    kind,
    ...identify(tail === '' ? base : tail),
    compressed: named.compressed,
    importedAt: Number(imported[2]),
    certain: wholeUuid.test(tail) || forkName.test(tail),
  };
}

/** Time of a name's `<ts>` in ms since 1970, or `undefined` when there is no such time. */
export function timeOfStamp(text: string): number | undefined {
  const [date, time] = text.split('T');
  const at = Date.parse(`${date ?? ''}T${(time ?? '').replaceAll('-', ':')}`);
  return Number.isNaN(at) ? undefined : at;
}

function parseClosed(match: RegExpExecArray, compressed: boolean): Named {
  const [, base = '', reason, at = '', generation] = match;
  // What was closed may itself be a trace or a copy: closing it does not make it a transcript.
  const inner = parseName(`${base}.jsonl`);
  if ('ignored' in inner) return inner;
  if (inner.kind !== 'plain') return { ...inner, compressed };
  const closedAt = timeOfStamp(at);
  return {
    kind: reason === 'reset' ? 'reset' : 'deleted',
    sessionName: inner.sessionName,
    sessionId: inner.sessionId,
    compressed,
    ...(closedAt === undefined ? {} : { closedAt }),
    ...(generation === undefined ? {} : { generation }),
  };
}

function copyOf(base: string, kind: 'checkpoint' | 'backup' | 'corrupt', compressed: boolean): Named {
  if (trajectoryName.test(`${base}.jsonl`)) return { ignored: 'a copy of a trace', expected: true };
  return { kind, ...identify(base), compressed };
}

function identify(base: string): { sessionName: string; sessionId: string } {
  const fork = forkName.exec(base);
  if (fork?.[1] !== undefined) return { sessionName: fork[1], sessionId: fork[1] };
  const topic = base.lastIndexOf('-topic-');
  if (topic > 0 && topic + '-topic-'.length < base.length)
    return { sessionName: base, sessionId: base.slice(0, topic) };
  return { sessionName: base, sessionId: base };
}

function hidden(name: string): Ignored {
  return { ignored: 'a hidden file', expected: !name.includes('.jsonl') };
}

function noise(name: string): Ignored {
  if (/\.(?:lock|tmp)$/.test(name)) return { ignored: 'a lock or a temporary file', expected: true };
  if (/^(?:legacy-store\.)?sessions\.json(?:\.|$)/.test(name)) return { ignored: 'an index', expected: true };
  if (trajectoryName.test(name)) return { ignored: 'a trace, not a transcript', expected: true };
  return { ignored: 'not a name that OpenClaw gives to a transcript', expected: !name.includes('.jsonl') };
}
