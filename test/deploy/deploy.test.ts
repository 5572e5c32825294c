import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { openClient } from '../../src/http/client.ts';
import { hashKey, makeKey } from '../../src/keys.ts';
import { type Azurite, startAzurite } from '../stores/azurite.ts';
import { openAppService } from './appservice.ts';
import { project } from './artifact.ts';
import { openContainerApps } from './containerapps.ts';

let azurite: Azurite;
let directory: string;
/** What is built, without a version. */
let bare: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'nexus-deploy-'));
  bare = path.join(directory, 'bare.zip');
  const zipped = execa('zip', ['-q1r', bare, 'bin', 'dist', '-x', '*.map'], { cwd: project });
  [azurite] = await Promise.all([startAzurite(), zipped]);
}, 60_000);
afterAll(async () => {
  await azurite.stop();
  await rm(directory, { recursive: true, force: true });
});

/** As .ci/artifact makes it, but for what is bundled into dist anyway. */
async function artifactOf(version: string): Promise<string> {
  const stage = await mkdtemp(path.join(directory, 'stage-'));
  const manifest: unknown = JSON.parse(await readFile(path.join(project, 'package.json'), 'utf8'));
  const said = JSON.stringify({ ...Object(manifest), version }, undefined, 2);
  await writeFile(path.join(stage, 'package.json'), said);
  const zip = path.join(stage, 'nexus.zip');
  await cp(bare, zip);
  await execa('zip', ['-q', zip, 'package.json'], { cwd: stage });
  return zip;
}

const key = makeKey();
const keys = JSON.stringify([{ name: 'all', hash: hashKey(key), agents: '*', scopes: ['upload', 'read'] }]);

interface Target {
  env: Record<string, string>;
  url: string;
}

async function deploy(target: Target, version: string, more: Record<string, string> = {}) {
  const { exitCode, stdout, stderr } = await execa(
    path.join(project, '.ci', 'deploy'),
    [await artifactOf(version)],
    {
      env: {
        ...target.env,
        AZURE_RESOURCE_GROUP: 'group',
        AZURE_APP: 'app',
        AZURE_REGISTRY: 'registry',
        NEXUS_KEYS: keys,
        CHECK_SECONDS: '15',
        ...more,
      },
      reject: false,
    },
  );
  return { status: exitCode, said: stdout, stderr };
}

async function versionAt({ url }: Target): Promise<unknown> {
  return Object(await (await fetch(`${url}/healthz`)).json()).version;
}

/** Asks all the time; resolves with the answers, by status, when it is told to stop. */
function visitor({ url }: Target): () => Promise<Record<string, number>> {
  const over = new AbortController();
  const statuses: Record<string, number> = {};
  const visiting = (async () => {
    while (!over.signal.aborted) {
      const said = await fetch(`${url}/healthz`).then(({ status }) => String(status), String);
      statuses[said] = (statuses[said] ?? 0) + 1;
      await sleep(10);
    }
  })();
  return async () => {
    over.abort();
    await visiting;
    return statuses;
  };
}

const own = () => ({ NEXUS_STORE_CONNECTION_STRING: azurite.connectionString });
const wrongKeys = { NEXUS_KEYS: '[{"name":"broken"}]', CHECK_SECONDS: '2' };

describe('on App Service', () => {
  async function appService() {
    const place = path.join(directory, `app-${Math.random()}`);
    await mkdir(place);
    const app = await openAppService(place, own());
    onTestFinished(() => app.close());
    return app;
  }

  test('a new version takes over without a request lost, and what it stored before is there', async () => {
    const app = await appService();
    expect(await deploy(app, '1.0.0+first')).toMatchObject({ status: 0 });
    const nexus = openClient({ endpoint: app.url, key });
    await nexus.append('main', 'kept', 0, Buffer.from('x\n'), { complete: true, about: {} });
    const leave = visitor(app);
    const next = await deploy(app, '1.0.0+next');
    const statuses = await leave();
    expect(next).toMatchObject({
      status: 0,
      said: expect.stringMatching(/\nnexus 1\.0\.0\+next is deployed\.$/),
    });
    expect(await versionAt(app)).toBe('1.0.0+next');
    expect(Object.keys(statuses)).toEqual(['200']);
    expect((await nexus.stat('main', 'kept'))?.length).toBe(2);
  }, 60_000);

  test('a version that does not start gets no traffic, and the step is named', async () => {
    const app = await appService();
    await deploy(app, '1.0.0+first');
    const leave = visitor(app);
    const broken = await deploy(app, '1.0.0+next', wrongKeys);
    expect(broken.status).not.toBe(0);
    expect(broken.said).toMatch(
      /::error::Deploying nexus 1\.0\.0\+next failed at the step “check the slot staging”\. The version that ran before still runs\.$/,
    );
    expect(app.calls.filter((call) => call.includes('slot swap'))).toHaveLength(1);
    expect(await versionAt(app)).toBe('1.0.0+first');
    expect(Object.keys(await leave())).toEqual(['200']);
    // And the configuration of what runs is not that of what was tried.
    expect(app.settings('production')['NEXUS_KEYS']).toBe(keys);
  }, 60_000);

  test('a version that serves but whose store does not answer gets no traffic', async () => {
    const app = await appService();
    await deploy(app, '1.0.0+first');
    app.faults.before = (words) => {
      const settings = app.settings('staging');
      if (words !== 'az webapp deploy') return;
      settings['NEXUS_STORE_CONNECTION_STRING'] =
        'DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:9/a;TableEndpoint=http://127.0.0.1:9/a';
    };
    const next = await deploy(app, '1.0.0+next', { CHECK_SECONDS: '1' });
    expect(next.said).toMatch(
      /failed at the step “check the slot staging”\. The version that ran before still runs/,
    );
    expect(await versionAt(app)).toBe('1.0.0+first');
  }, 60_000);

  test('where another version answers than the one that was put there, that gets no traffic', async () => {
    const app = await appService();
    await deploy(app, '1.0.0+first');
    await deploy(app, '1.0.0+second');
    app.faults.before = (words) => (words === 'az webapp deploy' ? 'lost' : undefined);
    const next = await deploy(app, '1.0.0+next', { CHECK_SECONDS: '1' });
    expect(next.said).toMatch(
      /is not nexus 1\.0\.0\+next and well\. It said last: .*1\.0\.0\+first.*\n.*“check the slot staging”/,
    );
    expect(await versionAt(app)).toBe('1.0.0+second');
  }, 60_000);

  test('what is sick once it has the traffic is taken back', async () => {
    const app = await appService();
    await deploy(app, '1.0.0+first');
    let swaps = 0;
    app.faults.afterSwap = async () => {
      if (++swaps === 1) await app.site()?.kill('SIGKILL');
    };
    const next = await deploy(app, '1.0.0+next', { CHECK_SECONDS: '2' });
    expect(next.status).not.toBe(0);
    expect(next.said).toMatch(
      /failed at the step “check what has the traffic”\. The version that ran before has its traffic back\.$/,
    );
    expect(await versionAt(app)).toBe('1.0.0+first');
  }, 60_000);

  test('whichever command fails, its step is named and nothing has changed', async () => {
    const app = await appService();
    await deploy(app, '1.0.0+first');
    const steps = {
      'az webapp config appsettings set': 'configure the slot staging',
      'az webapp deploy': 'put the artifact into the slot staging',
      'az webapp show': 'check the slot staging',
      'az webapp deployment slot swap': 'give it the traffic',
    };
    for (const [command, step] of Object.entries(steps)) {
      app.faults.before = (words) => {
        if (words === command) throw new Error('(AuthorizationFailed) no such role');
      };
      const next = await deploy(app, '1.0.0+next');
      expect(next.status).not.toBe(0);
      expect(next.stderr).toContain('AuthorizationFailed');
      expect(next.said).toContain(`failed at the step “${step}”. The version that ran before still runs.`);
      expect(await versionAt(app)).toBe('1.0.0+first');
    }
  }, 60_000);

  test('no value of the configuration is on a command line', async () => {
    const app = await appService();
    const mailboxes = { main: { sources: { github: { verify: 'github', secret: { env: 'GITHUB' } } } } };
    const more = {
      NEXUS_MAILBOXES: JSON.stringify(mailboxes, undefined, 2),
      AZURE_CLIENT_ID_OF_APP: 'client',
      NEXUS_SERVE_URL: 'https://nexus.example',
    };
    expect((await deploy(app, '1.0.0+first', more)).status).toBe(0);
    expect(app.calls.join('\n')).not.toMatch(/GITHUB|nxk_|hash|nexus\.example/);
    const settings = app.settings('production');
    expect(JSON.parse(settings['NEXUS_MAILBOXES'] ?? '')).toEqual(mailboxes);
    expect(settings).toMatchObject({
      NEXUS_KEYS: keys,
      NEXUS_SERVE_URL: 'https://nexus.example',
      NEXUS_SERVE_HOST: '0.0.0.0',
      NEXUS_TRUST_PROXY: '1',
      AZURE_CLIENT_ID: 'client',
      WEBSITE_RUN_FROM_PACKAGE: '1',
    });
  }, 60_000);
});

describe('on Container Apps', () => {
  async function containerApps() {
    const place = path.join(directory, `apps-${Math.random()}`);
    await mkdir(place);
    const apps = await openContainerApps(place, own());
    onTestFinished(() => apps.close());
    return apps;
  }
  const to = (run: number) => ({ DEPLOY_TO: 'container-apps', GITHUB_RUN_ID: String(run) });

  test('a new version takes over without a request lost, and the old one is stopped', async () => {
    const apps = await containerApps();
    expect(await deploy(apps, '1.0.0+first', to(1))).toMatchObject({ status: 0 });
    const leave = visitor(apps);
    expect(await deploy(apps, '1.0.0+next', to(2))).toMatchObject({ status: 0 });
    expect(await versionAt(apps)).toBe('1.0.0+next');
    expect(Object.keys(await leave())).toEqual(['200']);
    expect(apps.running()).toEqual(['app--vnext-2-1']);
  }, 60_000);

  test('a version that does not start gets no traffic and is stopped', async () => {
    const apps = await containerApps();
    await deploy(apps, '1.0.0+first', to(1));
    apps.followLatest();
    const leave = visitor(apps);
    const broken = await deploy(apps, '1.0.0+next', { ...to(2), ...wrongKeys });
    expect(broken.status).not.toBe(0);
    expect(broken.said).toMatch(
      /failed at the step “check the new revision”\. The version that ran before still runs\.$/,
    );
    expect(await versionAt(apps)).toBe('1.0.0+first');
    expect(Object.keys(await leave())).toEqual(['200']);
    expect(apps.running()).toEqual(['app--vfirst-1-1']);
  }, 60_000);

  test('what is sick once it has the traffic is taken back', async () => {
    const apps = await containerApps();
    await deploy(apps, '1.0.0+first', to(1));
    apps.faults.afterTraffic = async () => {
      const site = apps.site();
      if ((await versionAt(apps)) === '1.0.0+next') await site?.kill('SIGKILL');
    };
    const next = await deploy(apps, '1.0.0+next', { ...to(2), CHECK_SECONDS: '2' });
    expect(next.said).toMatch(
      /failed at the step “check what has the traffic”\. The version that ran before has its traffic back\.$/,
    );
    expect(await versionAt(apps)).toBe('1.0.0+first');
  }, 60_000);
});

test('what is deployed to is one of two, and a place that is neither is named', async () => {
  const place = path.join(directory, 'nowhere');
  await mkdir(place);
  const app = await openAppService(place, own());
  onTestFinished(() => app.close());
  const next = await deploy(app, '1.0.0+first', { DEPLOY_TO: 'the-moon' });
  expect(next.said).toContain(
    'failed at the step “choose between app-service and container-apps, and not the-moon”',
  );
  expect(app.calls).toEqual([]);
});
