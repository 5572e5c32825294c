// The main job on real input, on this machine, without a trace elsewhere: `npm run demo`.
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { cp, mkdtemp, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';

const project = path.resolve(import.meta.dirname, '..', '..');
const sample = path.join(project, 'test', 'fixtures', 'openclaw', 'upgraded-2026.7.35-to-2026.9.6');
const binary = path.join(project, 'bin', 'nexus.js');

const directory = await mkdtemp(path.join(tmpdir(), 'nexus-demo-'));
const stateDir = path.join(directory, 'openclaw');
const dataDir = path.join(directory, 'nexus');
await cp(sample, stateDir, { recursive: true });

// Whatever this machine's OpenClaw and Nexus are, the demo has its own.
const inherited = Object.entries(process.env).filter(
  ([name]) => !/^(NEXUS|OPENCLAW|CLAWDBOT|XDG)_/.test(name),
);
const env = {
  ...Object.fromEntries(inherited),
  HOME: directory,
  OPENCLAW_STATE_DIR: stateDir,
  NEXUS_DATA_DIR: dataDir,
  NEXUS_HOST_NAME: 'demo',
};

say('1. Archive all of its history', 'nexus backfill');
await nexus(['backfill']);

say('2. Serve it', 'nexus serve --port 0');
const { endpoint, stop } = await serve();

say('3. Ship a further session over HTTP', `curl -X POST ${endpoint}/api/sessions`);
const sessionId = randomUUID();
const record = { type: 'session', version: 3, id: sessionId, timestamp: new Date().toISOString(), cwd: '/' };
const response = await fetch(`${endpoint}/api/sessions`, {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ agentId: 'flickclaw', sessionId, transcript: `${JSON.stringify(record)}\n` }),
});
process.stdout.write(`${response.status} ${await response.text()}\n`);
if (response.status !== 200) process.exitCode = 1;

say('4. Ask whether all is well', 'nexus status');
await nexus(['status'], { NEXUS_ENDPOINT: endpoint });
await stop();

const inbox = path.join(dataDir, 'store', 'blobs', 'sessions', 'inbox');
say('The transcripts are plain files', `ls ${inbox}`);
for (const agent of await readdir(inbox)) {
  const files = await readdir(path.join(inbox, agent));
  process.stdout.write(`${agent}: ${files.length} transcripts, e.g. ${files[0]}\n`);
}
process.stdout.write(`\nRemove the demo with: rm -r ${directory}\n`);

function say(title, command) {
  process.stdout.write(`\n${title}\n  $ ${command}\n`);
}

async function nexus(args, more = {}) {
  const child = spawn(process.execPath, [binary, ...args], { env: { ...env, ...more }, stdio: 'inherit' });
  const [code] = await once(child, 'exit');
  if (code !== 0) {
    process.stderr.write(`nexus ${args.join(' ')} ended with status ${code}.\n`);
    process.exitCode = 1;
  }
}

/** Starts the endpoint on a free port of loopback; it tells the port on its first lines. */
async function serve() {
  const child = spawn(process.execPath, [binary, 'serve', '--port', '0'], {
    env,
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  const ended = once(child, 'exit');
  for await (const line of createInterface({ input: child.stderr })) {
    process.stdout.write(`${line}\n`);
    const found = /http:\/\/127\.0\.0\.1:\d+/.exec(line);
    if (found === null) continue;
    child.stderr.resume();
    return {
      endpoint: found[0],
      stop: async () => {
        child.kill('SIGTERM');
        await ended;
      },
    };
  }
  throw new Error('nexus serve ended before it listened.');
}
