import { constants } from 'node:fs';
import { chown, type FileHandle, mkdir, open, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { NexusError } from './errors.ts';
import { nestedDeeper } from './exactjson.ts';

export type Environment = Record<string, string | undefined>;

/** A configuration as a file has it: checked for nothing yet. */
export type Settings = Record<string, unknown>;

/** Whoever looks through settings does so by calling itself. */
const mostLevels = 100;

/** How long a writer waits for another one. */
const lockWaitMs = 10_000;

export function isSettings(value: unknown): value is Settings {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function homeOf(env: Environment): string | undefined {
  const home = env['HOME'];
  return home !== undefined && isAbsolute(home) ? home : undefined;
}

/** `--config`, else NEXUS_CONFIG, else `$XDG_CONFIG_HOME/nexus/config.json`, else `~/.config/nexus/config.json`. */
export function configPath(env: Environment, file?: string): string {
  const said = file ?? env['NEXUS_CONFIG'];
  if (said !== undefined && said !== '') return resolve(said);
  const configHome = env['XDG_CONFIG_HOME'];
  if (configHome !== undefined && isAbsolute(configHome)) return join(configHome, 'nexus', 'config.json');
  const home = homeOf(env);
  if (home !== undefined) return join(home, '.config', 'nexus', 'config.json');
  throw new NexusError('config', 'There is no home directory to find a configuration in.', {
    hint: 'Set HOME, XDG_CONFIG_HOME or NEXUS_CONFIG.',
  });
}

/**
 * What the file says; a file that does not exist says nothing. Reads only: no directory, no lock, no default is
 * written. `config` when it is not a JSON object, when another user could have written it, or when it holds a
 * secret that others can read.
 */
export async function readSettings(path: string): Promise<Settings> {
  const file = await openToRead(path);
  if (file === undefined) return {};
  try {
    const facts = await file.stat();
    if (!facts.isFile()) throw new NexusError('config', `${path} is not a regular file.`);
    const uid = process.geteuid?.() ?? facts.uid;
    if (facts.uid !== uid && facts.uid !== 0)
      throw new NexusError('config', `${path} belongs to uid ${facts.uid} and this is uid ${uid}.`, {
        hint: `Run as its owner, or run \`chown ${uid} ${quoted(path)}\`.`,
      });
    const settings = parseJson(path, await contentOf(path, file));
    // Whoever can write it could send the archive elsewhere; whoever can read a secret has it.
    const refused = holdsSecret(settings) ? 0o066 : 0o002;
    if ((facts.mode & refused) !== 0)
      throw new NexusError(
        'config',
        holdsSecret(settings)
          ? `${path} holds a secret and others can read or write it (mode ${octal(facts.mode)}).`
          : `${path} can be written by anybody (mode ${octal(facts.mode)}).`,
        { hint: `Run \`chmod 600 ${quoted(path)}\`.` },
      );
    return settings;
  } finally {
    await file.close();
  }
}

async function openToRead(path: string) {
  try {
    // Without O_NONBLOCK a FIFO would hang here.
    return await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw unreadable(path, error);
  }
}

async function contentOf(path: string, file: FileHandle): Promise<string> {
  try {
    return await file.readFile('utf8');
  } catch (error) {
    throw unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): NexusError {
  return new NexusError('config', `${path} cannot be read (${codeOf(error)}).`, {
    hint: `Look at it with \`ls -ld ${quoted(path)}\`.`,
    cause: error,
  });
}

/**
 * Changes the file under a lock, so that two writers at once lose nothing of each other. `edit` gets what the file
 * says and answers what it shall say, or throws to leave it; it must have checked the whole. Durable when it
 * resolves. File 0600, a new directory 0700.
 */
export async function editSettings(path: string, edit: (settings: Settings) => Settings): Promise<void> {
  const directory = dirname(path);
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw unwritable(path, error);
  }
  const { acquireLock } = await import('./processlock.ts');
  const lock = await acquireLock(`${path}.lock`, { waitMs: lockWaitMs });
  if (lock === undefined)
    throw new NexusError('busy', `Another process is writing ${path}.`, { hint: 'Try again.' });
  try {
    await write(path, edit(await readSettings(path)));
  } finally {
    await lock.release();
  }
}

async function write(path: string, settings: Settings): Promise<void> {
  const { default: Conf } = await import('conf');
  const content = `${JSON.stringify(settings, null, 2)}\n`;
  try {
    const file = await behindLinks(path);
    // Beside it: Conf takes what a full disk kept of it for the whole, and would have put that in its place.
    const fresh = `${file}.new`;
    await rm(fresh, { force: true });
    const conf = new Conf<Settings>({
      cwd: dirname(file),
      configName: basename(file),
      fileExtension: 'new',
      projectSuffix: '',
      clearInvalidConfig: false,
      configFileMode: 0o600,
      accessPropertiesByDotNotation: false,
      serialize: () => content,
    });
    conf.store = settings;
    await settle(fresh, content, file);
    await rename(fresh, file);
    await sync(dirname(file));
  } catch (error) {
    throw error instanceof NexusError ? error : unwritable(path, error);
  }
}

/** Where it lies; a link to it stays one. */
async function behindLinks(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return path;
    throw error;
  }
}

/** Makes what was written private and durable, and its owner that of the file that it follows; it must be whole. */
async function settle(fresh: string, content: string, before: string): Promise<void> {
  const file = await open(fresh, 'r');
  try {
    if ((await file.readFile('utf8')) !== content)
      throw new NexusError('config', `${before} cannot be written: there was no room for all of it.`, {
        hint: 'Free space on its file system.',
      });
    await file.chmod(0o600);
    const owner = await ownerOf(before);
    const { uid, gid } = await file.stat();
    if (owner !== undefined && (owner.uid !== uid || owner.gid !== gid))
      await chown(fresh, owner.uid, owner.gid);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function ownerOf(file: string): Promise<{ uid: number; gid: number } | undefined> {
  try {
    return await stat(file);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function sync(directory: string): Promise<void> {
  const folder = await open(directory, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function unwritable(path: string, error: unknown): NexusError {
  return new NexusError('config', `${path} cannot be written (${codeOf(error)}).`, {
    hint: `Look at it with \`ls -ld ${quoted(dirname(path))}\`.`,
    cause: error,
  });
}

/** The settings that the schema marks as secret, wherever they lie: this layer does not know the schema. */
const secretNames = new Set([
  'apiKey',
  'callbackBefore',
  'connectionString',
  'hooksToken',
  'secret',
  'token',
  'verifyToken',
]);

/** Whether a secret itself is in there; where one is kept is none. */
function holdsSecret(settings: Settings): boolean {
  return holdsNamed(settings) || secretsOfAlerts(settings).some(isPlain);
}

/** Whoever has the URL of a channel or of a monitor can write there. */
function secretsOfAlerts({ alerts, heartbeats }: Settings): unknown[] {
  const channels = isSettings(alerts) ? alerts['channels'] : undefined;
  return [
    ...(Array.isArray(channels) ? channels : []).flatMap((channel: unknown) =>
      isSettings(channel) ? [channel['url'] ?? [], channel['token'] ?? []] : [],
    ),
    ...(isSettings(heartbeats) ? Object.values(heartbeats) : []),
  ];
}

function holdsNamed(settings: unknown): boolean {
  if (Array.isArray(settings)) return settings.some(holdsNamed);
  if (!isSettings(settings)) return false;
  return Object.entries(settings).some(
    ([name, value]) => holdsNamed(value) || (secretNames.has(name) && isPlain(value)),
  );
}

function isPlain(value: unknown): boolean {
  return Array.isArray(value) ? value.some(isPlain) : value !== null && typeof value !== 'object';
}

function parseJson(path: string, content: string): Settings {
  let settings: unknown;
  try {
    settings = JSON.parse(content);
  } catch (error) {
    // The parser's own message quotes the file, and the file may hold a secret.
    const message = error instanceof Error ? error.message : '';
    const place = /\(line (\d+) column (\d+)\)/.exec(message);
    const where = place === null ? positionOf(content, message) : `line ${place[1]}, column ${place[2]}`;
    throw new NexusError('config', `${path} is not JSON: something is wrong at ${where}.`);
  }
  if (!isSettings(settings)) throw new NexusError('config', `${path} must hold one JSON object.`);
  if (nestedDeeper(content, mostLevels))
    throw new NexusError(
      'config',
      `${path} is nested more than ${mostLevels} levels deep, as no setting is.`,
    );
  return settings;
}

/** For the messages of the parser that have no position: those of an early end, and of an unexpected character. */
function positionOf(content: string, message: string): string {
  const lines = content.split('\n');
  if (!message.startsWith('Unexpected token')) return `its end (line ${lines.length})`;
  // The shortest beginning that already fails for another reason than its end.
  let [good, bad] = [0, content.length];
  while (bad - good > 1) {
    const middle = Math.floor((good + bad) / 2);
    if (failsBeforeEnd(content.slice(0, middle))) bad = middle;
    else good = middle;
  }
  const before = content.slice(0, good).split('\n');
  return `line ${before.length}, column ${(before.at(-1) ?? '').length + 1}`;
}

function failsBeforeEnd(content: string): boolean {
  try {
    JSON.parse(content);
    return false;
  } catch (error) {
    return error instanceof Error && error.message.startsWith('Unexpected token');
  }
}

function octal(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(3, '0');
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}

/** A path as a shell takes it. */
function quoted(path: string): string {
  return /^[\w./~-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
