import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { alertsSchema, type AlertSettings, channelSchema } from '../alertsettings.ts';
import { type Config, loadConfig } from '../config.ts';
import { configPath, type Environment, isSettings, readSettings, type Settings } from '../configfile.ts';
import { diskError, isAbsent } from '../diskerrors.ts';
import { describe, failedWith, NexusError } from '../errors.ts';
import type { LogSettings } from '../logline.ts';

/** What was set when a job last ran: who is told when the configuration cannot be read any more. */
function keptFile(dataDir: string): string {
  return path.join(dataDir, 'host', 'alertsettings.json');
}

/** Keeps who is to be told. Readable by this user alone, as the configuration is. */
export async function keepSettings({ dataDir, host, alerts }: Config): Promise<void> {
  const file = keptFile(dataDir);
  const kept = { host, alerts };
  if (isDeepStrictEqual(await jsonIn(file), kept)) return;
  if (alerts.channels.length === 0 && (await jsonIn(file)) === undefined) return;
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  const temporary = `${file}.${process.pid}.tmp`;
  await writeFile(temporary, JSON.stringify(kept), { mode: 0o600 });
  await rename(temporary, file);
}

async function jsonIn(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    // Absent, or half written by a machine that lost its power.
    if (error instanceof SyntaxError || isAbsent(error)) return undefined;
    throw diskError(error, file);
  }
}

/** The configuration, or as much of it as sends an alert, and then what is wrong with the rest. */
export interface Lenient {
  config: Config;
  wrong?: string;
}

/** What says where data lies and how this machine is called, and nothing that could be wrong with a job. */
const needed = [
  'HOME',
  'XDG_DATA_HOME',
  'NEXUS_DATA_DIR',
  'NEXUS_HOST_NAME',
  'OPENCLAW_STATE_DIR',
  'OPENCLAW_HOME',
];

/**
 * The configuration as far as it can be understood: an alert that the configuration is wrong must not fail because of
 * that. Where the file cannot be read as JSON, those are told whom the last job that ran would have told.
 */
export async function loadLeniently(
  env: Environment,
  file: string,
  logAs?: (settings: LogSettings) => void,
): Promise<Lenient> {
  try {
    return { config: await loadConfig({ env, file, logAs }) };
  } catch (error) {
    if (!failedWith(error, 'config')) throw error;
    const settings = await settingsOf(file);
    const few = Object.fromEntries(needed.map((name) => [name, env[name]]));
    // A file that does not exist says nothing.
    const absent = `${configPath(env, file)}.absent`;
    const textIn = (name: string, variable: string) =>
      typeof settings[name] === 'string' && !env[variable] ? { [name]: settings[name] } : {};
    const flags = { ...textIn('dataDir', 'NEXUS_DATA_DIR'), ...textIn('host', 'NEXUS_HOST_NAME') };
    const bare = await withOnly(few, absent, flags);
    const { kept, unreadable } = await keptIn(bare.dataDir);
    const said =
      alertsIn(settings['alerts']) ??
      alertsIn(isSettings(kept) ? kept['alerts'] : undefined) ??
      alertsIn(withoutWrong(settings['alerts']));
    const host =
      isSettings(kept) && typeof kept['host'] === 'string' && settings['host'] === undefined
        ? kept['host']
        : bare.host;
    const config = { ...bare, host, ...(said === undefined ? {} : { alerts: said }) };
    return { config, wrong: [describe(error), ...unreadable].join('\n') };
  }
}

/** What cannot be read is said, and keeps nobody from being told who can be. */
async function keptIn(dataDir: string): Promise<{ kept: unknown; unreadable: string[] }> {
  try {
    return { kept: await jsonIn(keptFile(dataDir)), unreadable: [] };
  } catch (error) {
    return { kept: undefined, unreadable: [describe(error)] };
  }
}

async function withOnly(env: Environment, file: string, flags: Settings): Promise<Config> {
  try {
    return await loadConfig({ env, file, flags });
  } catch (error) {
    if (!failedWith(error, 'config') || Object.keys(flags).length === 0) throw error;
    return await loadConfig({ env, file });
  }
}

async function settingsOf(file: string): Promise<Settings> {
  try {
    return await readSettings(file);
  } catch (error) {
    if (error instanceof NexusError) return {};
    throw error;
  }
}

function alertsIn(value: unknown): AlertSettings | undefined {
  const parsed = alertsSchema.safeParse(value);
  return value !== undefined && parsed.success ? parsed.data : undefined;
}

/** One channel that is wrong takes no other with it. */
function withoutWrong(alerts: unknown): unknown {
  if (!isSettings(alerts) || !Array.isArray(alerts['channels'])) return undefined;
  return { channels: alerts['channels'].filter((one) => channelSchema.safeParse(one).success) };
}
