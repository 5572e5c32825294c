import {
  accessSync,
  closeSync,
  constants,
  lstatSync,
  openSync,
  readdirSync,
  readSync,
  realpathSync,
  type Stats,
} from 'node:fs';
import { basename, join, sep } from 'node:path';
import { setImmediate as breathe } from 'node:timers/promises';
import { transcriptOf } from '../transcripts.ts';
import { openColdFile, sessionOfColdFile } from './cold.ts';
import { isObject } from './configfile.ts';
import type { Entries } from './entries.ts';
import { isHeld } from './locks.ts';
import {
  type NamedImport,
  type NamedTranscript,
  parseArchivedName,
  parseImportName,
  parseName,
} from './names.ts';
import { openPlainFile, type SeenFile } from './plainfile.ts';
import { prunedAt, type Retention } from './retention.ts';
import type { ColdRow } from './rows.ts';
import { triggerOfKey } from './sessionkey.ts';
import { signatureOf } from './signature.ts';
import { copyKinds, isQuiet, type Listing, type ListRequest, type Place } from './source.ts';
import { codeOf, mayRead, unreadable } from './unreadable.ts';
import { openCompressedFile } from './zstd.ts';

/** What the files of one agent are listed with. */
export interface FileContext {
  agent: string;
  entries: Entries;
  retention: Retention;
  request: ListRequest;
  /** OpenClaw's process ids mean something here. */
  samePids: boolean;
  /** Whether a session of a shared directory is this agent's; absent where the directory is its own. */
  owns?: ((sessionId: string) => boolean) | undefined;
  /** Cold archives that a database speaks of, by file name. */
  cold: Map<string, ColdRow>;
}

/** Looks at this many files before others get their turn. */
const batch = 1000;

/** Lists a sessions directory and, with `everything`, its `archive/`. One that does not exist is empty. */
export async function listSessionsDir(path: string, context: FileContext): Promise<Listing> {
  const listing = emptyListing();
  const directory = readDirectory(path, path, context.agent, listing);
  if (directory === undefined) {
    nameMissingCold(path, context, listing);
    return listing;
  }
  const locks = new Set(directory.names.filter((name) => name.endsWith('.lock')));
  await eachFile(directory, context, listing, parseName, (named, file) =>
    sessionPlace(
      named,
      file,
      context,
      locks.has(`${file.name}.lock`) &&
        isHeld(`${file.seen.path}.lock`, context.request.now, context.samePids),
    ),
  );
  if (directory.names.includes('cold'))
    await listCold(join(directory.real, 'cold'), directory.real, context, listing);
  nameMissingCold(directory.real, context, listing);
  if (directory.names.includes('archive') && context.request.everything) {
    const archive = readDirectory(join(directory.real, 'archive'), directory.real, context.agent, listing);
    if (archive !== undefined)
      await eachFile(archive, context, listing, parseArchivedName, (named, file) => ({
        ...placeOf(named, file, context),
        ...(copyKinds.has(named.kind) ? {} : { kind: 'archived' as const }),
        complete: true,
        prunedAt: undefined,
      }));
  }
  return listing;
}

/** Lists `session-sqlite-import-archive/`. */
export async function listImportArchive(
  path: string,
  within: string,
  context: FileContext,
): Promise<Listing> {
  const listing = emptyListing();
  const directory = readDirectory(path, within, context.agent, listing);
  if (directory === undefined) return listing;
  await eachFile(directory, context, listing, parseImportName, (named, file) => {
    const from = named.certain ? named : { ...named, ...namedByHeader(named, file) };
    return { ...placeOf(from, file, context), complete: true };
  });
  return listing;
}

export function emptyListing(): Listing {
  return { places: [], skipped: [], unreadable: [] };
}

interface Directory {
  /** Without links. */
  real: string;
  names: string[];
}

interface ListedFile {
  name: string;
  stat: Stats;
  seen: SeenFile;
}

/** The names in a directory that really lies in `within`; `undefined`, and named, when it cannot be listed. */
function readDirectory(path: string, within: string, agent: string, listing: Listing): Directory | undefined {
  try {
    const real = realpathSync(path);
    const around = realpathSync(within);
    if (real !== around && !real.startsWith(around + sep)) {
      listing.skipped.push({ item: path, reason: "a link out of the agent's directory" });
      return undefined;
    }
    return { real, names: readdirSync(real) };
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') listing.unreadable.push(unreadable(agent, path, error));
    return undefined;
  }
}

type AnyNamed = NamedTranscript | NamedImport;

/** Looks at every file whose name is a transcript's, and names those that look like one and are not listed. */
async function eachFile<Named extends AnyNamed>(
  directory: Directory,
  context: FileContext,
  listing: Listing,
  parse: (name: string) => Named | { ignored: string; expected: boolean },
  place: (named: Named, file: ListedFile) => Place,
): Promise<void> {
  let looked = 0;
  for (const name of directory.names) {
    const named = parse(name);
    const path = directory.real + sep + name;
    if ('ignored' in named) {
      if (!named.expected) listing.skipped.push({ item: path, reason: named.ignored });
      continue;
    }
    if (copyKinds.has(named.kind) && !context.request.everything) continue;
    if (context.owns?.(named.sessionId) === false) continue;
    if (++looked % batch === 0) await breathe();
    const stat = look(path, context.agent, listing);
    if (stat === undefined) continue;
    const seen = { path, dev: stat.dev, ino: stat.ino, directory: directory.real };
    listing.places.push(place(named, { name, stat, seen }));
  }
}

/** A regular file that may be read, else `undefined`, and named unless it has just vanished. */
function look(path: string, agent: string, listing: Listing): Stats | undefined {
  try {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) {
      if (path.includes('\ufffd'))
        listing.skipped.push({ item: path, reason: 'its name is not valid UTF-8' });
      return undefined;
    }
    if (stat.isSymbolicLink()) listing.skipped.push({ item: path, reason: 'a symbolic link' });
    else if (!stat.isFile()) listing.skipped.push({ item: path, reason: 'not a regular file' });
    else {
      if (!mayRead(stat)) accessSync(path, constants.R_OK);
      return stat;
    }
  } catch (error) {
    listing.unreadable.push(unreadable(agent, path, error));
  }
  return undefined;
}

function placeOf(named: AnyNamed, file: ListedFile, context: FileContext): Place {
  const { stat, seen } = file;
  const { kind, sessionId } = named;
  const generation = 'generation' in named ? named.generation : undefined;
  const closedAt = 'closedAt' in named ? named.closedAt : undefined;
  const era = generation === undefined ? 'file' : 'sqlite';
  const sessionKey = context.entries.keys.get(sessionId);
  const changedAt = stat.mtimeMs;
  return {
    agent: context.agent,
    place: seen.path,
    kind,
    era,
    sessionId,
    transcript: transcriptOf(named.sessionName),
    signature: signatureOf(stat),
    complete: true,
    busy: false,
    changedAt,
    // A file system without birth times says 0, or the time of the last change.
    ...(stat.birthtimeMs > 0 ? { bornAt: stat.birthtimeMs } : {}),
    size: stat.size,
    movable: undefined,
    prunedAt: prunedAt(context.retention, { kind, era, changedAt, sessionKey, closedAt }),
    about: sessionKey === undefined ? {} : { sessionKey, trigger: triggerOfKey(sessionKey) },
    open: openerOf(seen, named.compressed, true),
  };
}

/** A place in the sessions directory itself, where files are still written, closed and left behind. */
function sessionPlace(named: NamedTranscript, file: ListedFile, context: FileContext, busy: boolean): Place {
  const place = placeOf(named, file, context);
  if ((named.kind === 'reset' || named.kind === 'deleted') && named.generation === undefined)
    place.movable = 'closed';
  if (named.kind !== 'plain') return place;
  const { entries, request } = context;
  const active =
    entries.active.has(named.sessionId) ||
    entries.active.has(named.sessionName) ||
    entries.files.has(file.name);
  const quiet = isQuiet(place.changedAt, request.now, request.settleMs);
  const complete = entries.known ? !active && !busy && quiet : undefined;
  place.complete = complete;
  place.busy = busy;
  if (complete === true) place.movable = 'left';
  else place.open = openerOf(file.seen, false, false);
  return place;
}

// Apart, so that of fifty thousand places none keeps more than this in memory.
function openerOf(seen: SeenFile, compressed: boolean, whole: boolean): Place['open'] {
  return () => (compressed ? openCompressedFile(seen) : openPlainFile(seen, whole));
}

async function listCold(path: string, within: string, context: FileContext, listing: Listing): Promise<void> {
  const directory = readDirectory(path, within, context.agent, listing);
  for (const name of directory?.names ?? []) {
    if (directory === undefined || name.endsWith('.tmp') || name.endsWith('.tmp.zst')) continue;
    const file = join(directory.real, name);
    const sha256 = /^([0-9a-f]{64})\.jsonl\.zst$/.exec(name)?.[1];
    if (sha256 === undefined) {
      if (name.includes('.jsonl'))
        listing.skipped.push({ item: file, reason: 'not a name of a cold archive' });
      continue;
    }
    const row = context.cold.get(name);
    // What no row speaks of was restored into the database, or is of one that cannot be read.
    if (row === undefined && !context.request.everything) continue;
    const stat = look(file, context.agent, listing);
    if (stat === undefined) continue;
    const seen = { path: file, dev: stat.dev, ino: stat.ino, directory: directory.real };
    try {
      listing.places.push(
        row === undefined ? await strayCold(seen, stat, sha256, context) : coldPlace(seen, stat, row),
      );
    } catch (error) {
      listing.unreadable.push(unreadable(context.agent, file, error));
    }
  }
}

function coldPlace(seen: SeenFile, stat: Stats, row: ColdRow): Place {
  const { sha256, events } = row;
  const facts = { sessionId: row.place.sessionId, sha256, events };
  return { ...row.place, place: seen.path, size: stat.size, open: () => openColdFile(seen, facts) };
}

async function strayCold(seen: SeenFile, stat: Stats, sha256: string, context: FileContext): Promise<Place> {
  const sessionId = await sessionOfColdFile(seen);
  const named = { kind: 'plain' as const, sessionName: sessionId, sessionId, compressed: true };
  const place = placeOf(named, { name: basename(seen.path), stat, seen }, context);
  const open = () => openColdFile(seen, { sessionId, sha256 });
  return { ...place, kind: 'cold', era: 'sqlite', prunedAt: undefined, open };
}

/** A row says that the transcript is in a file: that it is not there must not look like nothing to do. */
function nameMissingCold(sessionsDir: string, context: FileContext, listing: Listing): void {
  const there = new Set(
    listing.places.filter(({ kind }) => kind === 'cold').map(({ place }) => basename(place)),
  );
  const told = new Set([
    ...listing.unreadable.map(({ path }) => path),
    ...listing.skipped.map(({ item }) => item),
  ]);
  const cold = join(sessionsDir, 'cold');
  if (told.has(sessionsDir) || told.has(cold)) return;
  for (const [name, { place }] of context.cold) {
    const path = join(cold, name);
    if (there.has(name) || told.has(path)) continue;
    const reason = `${path} is missing: by its database it holds session ${place.sessionId}.`;
    listing.unreadable.push({ agent: context.agent, path, reason, command: 'openclaw doctor' });
  }
}

/** The session id of a file's header, where its name ends in it; else nothing. */
function namedByHeader(named: NamedImport, file: ListedFile): { sessionName?: string; sessionId?: string } {
  if (named.compressed) return {};
  const id = headerId(file.seen.path);
  return id !== undefined && file.name.includes(`${id}.jsonl`) ? { sessionName: id, sessionId: id } : {};
}

function headerId(path: string): string | undefined {
  const buffer = Buffer.alloc(16 * 1024);
  try {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const [line = ''] = buffer.toString('utf8', 0, readSync(fd, buffer)).split('\n');
      const header: unknown = JSON.parse(line);
      return isObject(header) && typeof header['id'] === 'string' ? header['id'] : undefined;
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    // No header, or gone by now: then the name has to do.
    if (error instanceof SyntaxError || codeOf(error) !== undefined) return undefined;
    throw error;
  }
}
