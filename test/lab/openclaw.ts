import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { execa } from 'execa';
import { freePort } from '../freeport.ts';

/** The release that these tests are about. */
const version = '2026.9.6';

/** Runs real OpenClaw releases against a stub model; beside the project, not part of it. */
const lab =
  process.env['NEXUS_OPENCLAW_LAB'] ?? path.resolve(import.meta.dirname, '../../../shared/openclaw-lab');
/** Where the lab installs releases. */
const packages = process.env['OCLAB_PKG'] ?? path.resolve(lab, '../pkg');
const programs = path.join(packages, version, 'node_modules', '.bin');

/** In CI a release that is not there is installed; elsewhere nobody is made to wait for it. */
export const canRun =
  existsSync(path.join(lab, 'oclab.mjs')) &&
  (process.env['CI'] !== undefined || existsSync(path.join(programs, 'openclaw')));

/** How long the first start may take, with the installation. */
export const startMs = 900_000;

/** A gateway on loopback with its hooks on, and the agents main and work. */
export interface OpenClaw {
  stateDir: string;
  configFile: string;
  workspace: (agent: string) => string;
  /** The directory of its command line. */
  programs: string;
  stop: () => Promise<void>;
}

export async function startOpenClaw(): Promise<OpenClaw> {
  const root = await mkdtemp(path.join(tmpdir(), 'nexus-lab-'));
  const flags = ['--version', version, '--out', root, '--pkg', packages, '--agents', 'main,work'];
  const child = execa(
    process.execPath,
    [path.join(lab, 'oclab.mjs'), 'serve', ...flags, '--port', String(await freePort())],
    // A group of its own: of the lab's two processes only the inner one ends what was started.
    { stdin: 'ignore', reject: false, detached: true },
  );
  let ended = false;
  const end = child.then((result) => {
    ended = true;
    return result;
  });
  async function stop(): Promise<void> {
    if (child.pid !== undefined && !ended) process.kill(-child.pid, 'SIGTERM');
    await end;
    await rm(root, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
  }
  const ready = await Promise.race([
    new Promise<true>((resolve) => child.stdout.on('data', () => resolve(true))),
    end.then(({ stderr }) => stderr),
  ]);
  if (ready !== true) {
    await stop();
    throw new Error(`The lab did not start OpenClaw ${version}:\n${ready}`);
  }
  return {
    stateDir: path.join(root, 'state'),
    configFile: path.join(root, 'state', 'openclaw.json'),
    workspace: (agent) => path.join(root, `ws-${agent}`),
    programs,
    stop,
  };
}
