import { createHmac, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { openClient } from '../../src/http/client.ts';
import { openMailboxClient } from '../../src/http/mailboxclient.ts';
import { hashKey, makeKey } from '../../src/keys.ts';
import { openAzureStore } from '../../src/stores/azure.ts';
import { openWebhooks } from '../../src/webhooks.ts';
import { secret } from '../http/senders.ts';
import { describeServed, servedSources } from '../mailbox/overhttp.ts';
import { describePort } from '../port/suite.ts';
import { type Azurite, freshPrefix, startAzurite } from '../stores/azurite.ts';
import { type Artifact, makeArtifact, project, type Site, startSite, unpack } from './artifact.ts';

let directory: string;
let artifact: Artifact;
let again: Artifact;
let azurite: Azurite;
/** Where it is unpacked, far from the project. */
let app: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'nexus-artifact-'));
  app = path.join(directory, 'app');
  [azurite, artifact, again] = await Promise.all([
    startAzurite(),
    makeArtifact(directory),
    makeArtifact(path.join(directory, 'elsewhere')),
  ]);
  await unpack(artifact.zip, app);
}, 120_000);
afterAll(async () => {
  await azurite.stop();
  await rm(directory, { recursive: true, force: true });
});

const key = makeKey();
const keys = JSON.stringify([
  { name: 'suite', hash: hashKey(key), agents: '*', scopes: ['upload', 'pull', 'read'] },
]);
const retries = { tries: 2, baseMs: 1, maxMs: 1 };

/** As the platforms start it. */
function started(prefix: string, more: Record<string, string> = {}): Promise<Site> {
  return startSite(app, {
    NEXUS_STORE: 'azure',
    NEXUS_STORE_CONNECTION_STRING: azurite.connectionString,
    NEXUS_STORE_PREFIX: prefix,
    NEXUS_SERVE_HOST: '0.0.0.0',
    NEXUS_KEYS: keys,
    NEXUS_MAILBOXES: JSON.stringify(servedSources),
    NEXUS_TRUST_PROXY: '1',
    ...more,
  });
}

/** The same for one test. */
async function running(prefix = freshPrefix(), more?: Record<string, string>): Promise<Site> {
  const site = await started(prefix, more);
  onTestFinished(() => site.kill('SIGKILL').then(() => undefined));
  return site;
}

async function overArtifact() {
  const prefix = freshPrefix();
  const site = await started(prefix);
  const store = await openAzureStore({ connectionString: azurite.connectionString, prefix });
  return {
    site,
    store,
    close: async () => {
      await site.kill('SIGTERM');
      await store.close();
    },
  };
}

describePort('over HTTP, of the artifact', async () => {
  const { site, store, close } = await overArtifact();
  return {
    nexus: openClient({ endpoint: site.url, key, retries }),
    store,
    close,
    async spoil(name) {
      const pieces: Uint8Array[] = [];
      for await (const piece of store.open(name)) pieces.push(piece);
      const bytes = Buffer.concat(pieces);
      bytes[0] = (bytes[0] ?? 0) ^ 1;
      await store.remove(name);
      await store.append(name, 0, bytes);
    },
  };
});

describeServed('over HTTP, of the artifact', async () => {
  const { site, store, close } = await overArtifact();
  return {
    url: site.url,
    store,
    close,
    mailbox: openMailboxClient({ endpoint: site.url, key, retries }),
    webhooks: openWebhooks(store),
    apart: true,
  };
});

test('is the same to the byte when it is made again at another place', async () => {
  const [one, other] = await Promise.all([readFile(artifact.zip), readFile(again.zip)]);
  expect(one.equals(other)).toBe(true);
});

test('has built code, production dependencies, the lock file, and nothing else', async () => {
  expect((await readdir(app)).sort()).toEqual([
    'bin',
    'dist',
    'node_modules',
    'package-lock.json',
    'package.json',
  ]);
  const { stdout } = await execa('npm', ['ls', '--omit=dev', '--depth=0', '--json'], {
    cwd: app,
    reject: false,
  });
  const { dependencies, problems = [] } = Object(JSON.parse(stdout));
  expect(problems.filter((problem: string) => problem.startsWith('extraneous'))).toEqual([]);
  expect(Object.keys(dependencies)).toContain('fastify');
  expect(await readdir(path.join(app, 'node_modules'))).not.toContain('vitest');
  const built = await readdir(path.join(app, 'dist'), { recursive: true });
  expect(
    built
      .filter((file) => !/^(main|indexer|usagereading|chunks|chunks\/.+)(\.js(\.map)?)?$/.test(file))
      .sort(),
  ).toEqual(['dashboard', 'dashboard/dashboard.css', 'dashboard/dashboard.js', 'dashboard/icon.svg']);
  // Of packages only those of node_modules, as the lock file has them.
  for (const file of built.filter((name) => name.endsWith('.js')))
    expect(await readFile(path.join(app, 'dist', file), 'utf8')).not.toMatch(/^\/\/ .*node_modules\//m);
});

test('says the version that was deployed, its commit included, to anybody', async () => {
  const site = await running();
  const commit = (await execa('git', ['rev-parse', 'HEAD'], { cwd: import.meta.dirname })).stdout.slice(
    0,
    12,
  );
  expect(artifact.version).toMatch(new RegExp(`^\\d+\\.\\d+\\.\\d+\\+${commit}(\\.changed)?$`));
  const answer = await fetch(`${site.url}/healthz`);
  expect(await answer.json()).toEqual({ status: 'ok', version: artifact.version });
  expect((await fetch(`${site.url}/readyz`)).status).toBe(200);
});

test('listens on the PORT it is given, on every address', async () => {
  const site = await running();
  expect(site.said()).toContain(`Listening on http://0.0.0.0:${site.port}, storing in Azure storage account`);
});

test('does not start on every address without a key', async () => {
  const site = await running(freshPrefix(), { NEXUS_KEYS: '' });
  expect(await site.kill('SIGTERM')).toBe(78);
  expect(site.said()).toContain('Without any key the endpoint listens on loopback only');
});

test('asks for the storage account by the managed identity that it was given', async () => {
  const asked: string[] = [];
  const identity = createServer(({ url = '', headers }, response) => {
    asked.push(`${url} ${String(headers['x-identity-header'])}`);
    response.setHeader('content-type', 'application/json');
    const expires_on = Math.floor(Date.now() / 1000) + 3600;
    response.end(JSON.stringify({ access_token: 'token', expires_on, resource: '', token_type: 'Bearer' }));
  });
  await new Promise<void>((resolve) => identity.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void identity.close());
  const { port } = Object(identity.address());
  const config = path.join(directory, 'nowhere.json');
  await writeFile(config, JSON.stringify({ store: { endpointSuffix: 'invalid' } }), { mode: 0o600 });
  // As App Service tells an app where its identity is. There can be no such account.
  const site = await running(freshPrefix(), {
    NEXUS_STORE_CONNECTION_STRING: '',
    NEXUS_STORE_ACCOUNT: 'nosuchaccount',
    NEXUS_CONFIG: config,
    AZURE_CLIENT_ID: 'client-of-app',
    IDENTITY_ENDPOINT: `http://127.0.0.1:${String(port)}/msi/token`,
    IDENTITY_HEADER: 'proof',
  });
  expect((await fetch(`${site.url}/readyz`)).status).toBe(503);
  expect((await fetch(`${site.url}/healthz`)).status).toBe(200);
  expect(asked[0]).toMatch(/^\/msi\/token\?.*proof$/);
  const query = new URL(asked[0]?.split(' ', 1)[0] ?? '', site.url).searchParams;
  expect(query.get('client_id')).toBe('client-of-app');
  expect(query.get('resource')).toContain('https://storage.azure.com');
}, 60_000);

test('killed with requests under way and started again on an empty disk, it has lost nothing it acknowledged', async () => {
  const prefix = freshPrefix();
  const site = await running(prefix);
  const signed = (body: string) => ({
    method: 'POST',
    body,
    headers: {
      'content-type': 'application/json',
      'x-hub-signature-256': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
    },
  });
  const sessions: string[] = [];
  const items: string[] = [];
  const acknowledged = async (send: () => Promise<void>) => {
    for (;;)
      try {
        await send();
      } catch {
        // Gone: what was not acknowledged is the sender's to send again.
        return;
      }
  };
  const transcript = (id: string) => `{"type":"session","id":"${id}"}\n${'x'.repeat(20_000)}\n`;
  const senders = [0, 1, 2, 3].flatMap(() => [
    acknowledged(async () => {
      const sessionId = randomUUID();
      const body = JSON.stringify({ agentId: 'main', sessionId, transcript: transcript(sessionId) });
      const headers = { 'x-functions-key': key, 'content-type': 'application/json' };
      const answer = await fetch(`${site.url}/api/sessions`, { method: 'POST', body, headers });
      expect(answer.status).toBe(200);
      await answer.text();
      sessions.push(sessionId);
    }),
    acknowledged(async () => {
      const answer = await fetch(
        `${site.url}/api/webhook/main?source=github`,
        signed(`{"n":"${randomUUID()}"}`),
      );
      expect(answer.status).toBe(202);
      items.push(Object(await answer.json()).id);
    }),
  ]);
  await expect.poll(() => Math.min(sessions.length, items.length), { timeout: 15_000 }).toBeGreaterThan(20);
  await site.kill('SIGKILL');
  await Promise.all(senders);
  // Nothing of it was on this disk anyway, but for the index of usage, which is derived.
  const onDisk = await readdir(site.home, { recursive: true });
  expect(onDisk.filter((name) => !/^data(\/usage(\/index-.+)?)?$/.test(name))).toEqual([]);

  const next = await running(prefix);
  const nexus = openClient({ endpoint: next.url, key, retries });
  for (const id of sessions) {
    const pieces: Uint8Array[] = [];
    for await (const piece of nexus.read('main', id)) pieces.push(piece);
    expect(Buffer.concat(pieces).toString()).toBe(transcript(id));
  }
  const mailbox = openMailboxClient({ endpoint: next.url, key, retries });
  const { items: pending } = await mailbox.pending({ agents: ['main'], limit: 1000 });
  expect(pending.map(({ id }) => id)).toEqual(expect.arrayContaining(items));
}, 60_000);

test('the line that App Service starts hands SIGTERM on, though a shell runs it', async () => {
  const readme = await readFile(path.join(project, 'README.md'), 'utf8');
  const [, line = ''] = /--startup-file '([^']*)'/.exec(readme) ?? [];
  const script = path.join(directory, 'startup.sh');
  await writeFile(script, `export APP=nexus\n${line}\n`);
  const more = { NEXUS_STORE: 'local', NEXUS_KEYS: keys, PATH: `${path.dirname(process.execPath)}:/bin` };
  const site = await startSite(app, more, ['/bin/sh', script]);
  onTestFinished(() => site.kill('SIGKILL').then(() => undefined));
  expect(site.said()).toContain('Listening on');
  expect(await site.kill('SIGTERM')).toBe(143);
});

test('told to stop, it takes no more, finishes what it has, and ends', async () => {
  const site = await running();
  const transcript = '{"type":"session"}\n';
  const body = JSON.stringify({ agentId: 'main', sessionId: randomUUID(), transcript });
  const held = request(`${site.url}/api/sessions`, {
    method: 'POST',
    headers: {
      'x-functions-key': key,
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      expect: '100-continue',
    },
  });
  const answered = once(held, 'response');
  held.flushHeaders();
  // It has begun to read.
  await once(held, 'continue');
  held.write(body.slice(0, 20));
  const ended = site.kill('SIGTERM');
  const refused = () =>
    fetch(`${site.url}/healthz`).then(
      () => false,
      () => true,
    );
  await expect.poll(refused, { timeout: 10_000 }).toBe(true);
  held.end(body.slice(20));
  const [answer] = await answered;
  expect(answer.statusCode).toBe(200);
  answer.resume();
  expect(await ended).toBe(143);
});
