import { readFileSync } from 'node:fs';
import path from 'node:path';
import { isAbsent } from '../diskerrors.ts';
import { isMe } from './me.ts';
import { shellWord } from './shellword.ts';
import { unitDirectory } from './unitfiles.ts';
import { plainWord } from './units.ts';

/** The commands that speak of a host's own state. */
const ofHost = new Set([
  'backfill',
  'upload',
  'pull-webhooks',
  'status',
  'retry',
  'alerts list',
  'alerts test',
]);

/** What says which OpenClaw and which data a job is about. */
const telling = /^(?:NEXUS|OPENCLAW|CLAWDBOT|XDG)_/;

/**
 * A warning where units of this user run the jobs with another configuration or for another OpenClaw than this command,
 * by hand: it would speak of another Nexus than they, and keep another ledger. Nothing is asked of systemd.
 */
export function unlikeUnits(
  command: string,
  configFile: string,
  env: Record<string, string | undefined>,
): string | undefined {
  if (!ofHost.has(command) || env['INVOCATION_ID'] !== undefined) return undefined;
  for (const mode of ['system', 'user'] as const) {
    const text = textOf(path.join(unitDirectory(mode, env), 'nexus-upload.service'));
    if (text === undefined || !isMe(plainWord(/^User=(.*)$/m.exec(text)?.[1] ?? ''))) continue;
    const lacking = settingsIn(text).filter(([name = '', value]) => env[name] !== value);
    const file = /^ExecStart=.* --config ("(?:[^"\\]|\\.)*"|\S+) upload$/m.exec(text)?.[1];
    const said = file === undefined ? configFile : plainWord(file).replaceAll('$$', '$');
    if (lacking.length === 0 && said === configFile) return undefined;
    const words = [
      ...lacking.map(([name = '', value = '']) => `${name}=${shellWord(value)}`),
      'nexus',
      ...(said === configFile ? [] : ['--config', shellWord(said)]),
      command,
    ];
    return `The units of this machine do it otherwise, with an archive and records that may be others. As they do: \`${words.join(' ')}\`.`;
  }
  return undefined;
}

function settingsIn(text: string): string[][] {
  return [...text.matchAll(/^Environment=(.*)$/gm)]
    .map(([, word = '']) => plainWord(word).split(/=(.*)/s))
    .filter(([name = '']) => telling.test(name));
}

function textOf(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    // Units that cannot be read are `nexus status`'s concern.
    if (isAbsent(error) || (error instanceof Error && 'code' in error)) return undefined;
    throw error;
  }
}
