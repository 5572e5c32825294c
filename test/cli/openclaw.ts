import { mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import { openSessions } from '../../src/sessions.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import { type Host, makeHost } from '../jobs/host.ts';
import { type Machine, newMachine, type RunOptions } from './nexus.ts';

/** A machine with OpenClaw's files on it. Its runs find them, and have a data directory and a host name. */
export interface OpenClawMachine extends Machine {
  openclaw: Host;
  /** Writes the configuration file, as its owner would have it. */
  configure: (settings: object) => Promise<void>;
}

/** Files of a fixture are aged, so that nothing of it is about to settle; those of a checkout are new. */
export async function newOpenClawMachine(
  fixture?: string,
  more: Record<string, string> = {},
): Promise<OpenClawMachine> {
  const machine = await newMachine();
  const openclaw = await makeHost(fixture);
  onTestFinished(() => openclaw.remove());
  await age(openclaw.stateDir, 2 * 3_600_000);
  const { dataDir, stateDir } = openclaw;
  const known = { OPENCLAW_STATE_DIR: stateDir, NEXUS_DATA_DIR: dataDir, NEXUS_HOST_NAME: 'box', ...more };
  const over = (options: RunOptions = {}) => ({ ...options, env: { ...known, ...options.env } });
  return {
    ...machine,
    dataDir,
    openclaw,
    nexus: (args, options) => machine.nexus(args, over(options)),
    json: (args, options) => machine.json(args, over(options)),
    start: (args, options) => machine.start(args, over(options)),
    async configure(settings) {
      await mkdir(path.dirname(machine.configFile), { recursive: true });
      await writeFile(machine.configFile, JSON.stringify(settings), { mode: 0o600 });
    },
  };
}

async function age(directory: string, ms: number): Promise<void> {
  const at = new Date(Date.now() - ms);
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true }))
    if (entry.isFile()) await utimes(path.join(entry.parentPath, entry.name), at, at);
}

/** What a data directory's archive holds, by `agent/transcript`, read through the store. */
export async function archived(dataDir: string): Promise<Map<string, Buffer>> {
  const nexus = openSessions(await openLocalStore(path.join(dataDir, 'store')));
  const found = new Map<string, Buffer>();
  for await (const { agent, transcript } of nexus.list()) {
    const pieces: Uint8Array[] = [];
    for await (const piece of nexus.read(agent, transcript)) pieces.push(piece);
    found.set(`${agent}/${transcript}`, Buffer.concat(pieces));
  }
  await nexus.close();
  return found;
}

/** The transcripts of a state directory's file era, as OpenClaw left them, by path. */
export async function transcriptFiles(stateDir: string): Promise<Map<string, Buffer>> {
  const found = new Map<string, Buffer>();
  for (const entry of await readdir(stateDir, { withFileTypes: true, recursive: true })) {
    const file = path.join(entry.parentPath, entry.name);
    if (/\.jsonl(\.(reset|deleted)\.[^/]*Z)?$/.test(file) && !/\.(trajectory|checkpoint)\./.test(file))
      found.set(path.relative(stateDir, file), await readFile(file));
  }
  return found;
}

/** Output with what differs between two runs left out: times, and where the machine lies. */
export function plain(text: string, machine: OpenClawMachine): string {
  return text
    .replaceAll(machine.dataDir, '<data>')
    .replaceAll(machine.openclaw.stateDir, '<openclaw>')
    .replaceAll(/\bin \d+(\.\d+)? (ms|s|min)\b/g, 'in <time>');
}

/** What a job says of each agent. */
export function auditsOf(answer: Record<string, unknown>): Record<string, Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(Object(answer['agents'])).map(([id, audit]) => [
      id,
      Object.fromEntries(Object.entries(Object(audit))),
    ]),
  );
}
