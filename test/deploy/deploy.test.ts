import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
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
        NEXUS_STORE_ACCOUNT: 'azurite',
        CHECK_SECONDS: '15',
        ...more,
      },
      reject: false,
    },
  );
  return { status: exitCode, said: stdout, stderr };
}

/** The version that is there when others are deployed. */
async function deployFirst(target: Target, more?: Record<string, string>): Promise<void> {
  const { status, said, stderr } = await deploy(target, '1.0.0+first', more);
  if (status !== 0) throw new Error(`${said}\n${stderr}`);
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
/** A storage account that nobody answers for. */
const nowhere =
  'DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:9/a;TableEndpoint=http://127.0.0.1:9/a';
const wrongKeys = { NEXUS_KEYS: '[{"name":"broken"}]', CHECK_SECONDS: '2' };

const still = 'The version that ran before, 1.0.0+first, still runs.';
const back = 'The version that ran before, 1.0.0+first, has its traffic back.';
const none = 'No version answered there before';

/** How a deployment ends that fails. */
function failed(step: string, state: string) {
  const last = `::error::Deploying nexus 1.0.0+next failed at the step “${step}”. ${state}`;
  return { status: 1, said: expect.stringMatching(new RegExp(`\\n${last.replaceAll(/[.+]/g, '\\$&')}$`)) };
}

/** Fails a command the nth time that it is given. */
function failing(command: string, nth = 1, last = nth) {
  let times = 0;
  return (words: string): void => {
    if (words !== command) return;
    times++;
    if (times >= nth && times <= last) throw new Error('(AuthorizationFailed) no such role');
  };
}

describe('on App Service', () => {
  let count = 0;
  async function appService() {
    const place = path.join(directory, `app-${++count}`);
    await mkdir(place);
    return await openAppService(place, own());
  }
  type App = Awaited<ReturnType<typeof appService>>;
  async function forOneTest(): Promise<App> {
    const app = await appService();
    onTestFinished(() => app.close());
    return app;
  }
  const slotAnswers = async ({ slotUrl }: App) => (await fetch(`${slotUrl}/healthz`)).status;

  test('a new version takes over without a request lost, what it stored before is there, and the old one is stopped', async () => {
    const app = await forOneTest();
    expect(await deploy(app, '1.0.0+first')).toMatchObject({ status: 0 });
    const nexus = openClient({ endpoint: app.url, key });
    await nexus.append('main', 'kept', 0, Buffer.from('x\n'), { complete: true, about: {} });
    // What takes an artifact fails for a while once it is configured.
    app.faults.before = failing('az webapp deploy', 1, 2);
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
    expect(await slotAnswers(app)).toBe(503);
  }, 60_000);

  test('of a first version that is sick it is said that there is none before it', async () => {
    const app = await forOneTest();
    app.faults.afterSwap = async () => void (await app.site()?.kill('SIGKILL'));
    expect(await deploy(app, '1.0.0+next', { CHECK_SECONDS: '3' })).toMatchObject(
      failed('check what has the traffic', `${none}, so nothing was taken back; there answers now: none.`),
    );
  }, 60_000);

  test('of a first version that does not start it is said that none has the traffic', async () => {
    const app = await forOneTest();
    expect(await deploy(app, '1.0.0+next', wrongKeys)).toMatchObject(
      failed('check the slot staging', `${none}, and none has the traffic now.`),
    );
  }, 60_000);

  describe('where a version runs', () => {
    let app: App;
    beforeAll(async () => {
      app = await appService();
      await deployFirst(app);
    }, 60_000);
    afterAll(() => app.close());
    beforeEach(() => {
      for (const name of ['before', 'afterSwap', 'lateMs'] as const) delete app.faults[name];
    });

    test('one that does not start gets no traffic, and is stopped', async () => {
      const leave = visitor(app);
      expect(await deploy(app, '1.0.0+next', wrongKeys)).toMatchObject(
        failed('check the slot staging', still),
      );
      expect(await versionAt(app)).toBe('1.0.0+first');
      expect(Object.keys(await leave())).toEqual(['200']);
      expect(await slotAnswers(app)).toBe(503);
      // And the configuration of what runs is not that of what was tried.
      expect(app.settings('production')['NEXUS_KEYS']).toBe(keys);
    }, 60_000);

    test('one that serves but whose store does not answer gets no traffic', async () => {
      app.faults.before = (words) => {
        const settings = app.settings('staging');
        if (words === 'az webapp deploy') settings['NEXUS_STORE_CONNECTION_STRING'] = nowhere;
      };
      const next = await deploy(app, '1.0.0+next', { CHECK_SECONDS: '2' });
      delete app.settings('staging')['NEXUS_STORE_CONNECTION_STRING'];
      expect(next).toMatchObject(failed('check the slot staging', still));
      expect(await versionAt(app)).toBe('1.0.0+first');
    }, 60_000);

    test('where another version answers than the one that was put there, that gets no traffic', async () => {
      app.faults.before = failing('az webapp deployment slot swap');
      await deploy(app, '1.0.0+second');
      app.faults.before = (words) => (words === 'az webapp deploy' ? 'lost' : undefined);
      const next = await deploy(app, '1.0.0+next', { CHECK_SECONDS: '2' });
      expect(next).toMatchObject(failed('check the slot staging', still));
      expect(next.said).toMatch(/is not nexus 1\.0\.0\+next and well\. It said last: .*1\.0\.0\+second/);
      expect(await versionAt(app)).toBe('1.0.0+first');
    }, 60_000);

    test('the same version with another configuration is not taken for what ran in the slot before', async () => {
      app.faults.before = failing('az webapp deployment slot swap');
      await deploy(app, '1.0.0+next');
      // As after a rehearsal of going back.
      const slot = ['--resource-group', 'group', '--name', 'app', '--slot', 'staging'];
      await execa('az', ['webapp', 'start', ...slot], { env: app.env });
      app.faults.lateMs = 3000;
      delete app.faults.before;
      expect(await deploy(app, '1.0.0+next', wrongKeys)).toMatchObject(
        failed('check the slot staging', still),
      );
      await app.settled();
      expect(await versionAt(app)).toBe('1.0.0+first');
    }, 60_000);

    test('what is sick once it has the traffic is taken back, and stopped', async () => {
      let swaps = 0;
      app.faults.afterSwap = async () => {
        if (++swaps === 1) await app.site()?.kill('SIGKILL');
      };
      expect(await deploy(app, '1.0.0+next', { CHECK_SECONDS: '3' })).toMatchObject(
        failed('check what has the traffic', back),
      );
      expect(await versionAt(app)).toBe('1.0.0+first');
      expect(app.calls.at(-1)).toMatch(/^az webapp stop .*--slot staging/);
    }, 60_000);

    test('a swap that fails after it is done is undone', async () => {
      let swaps = 0;
      app.faults.afterSwap = () => {
        if (++swaps === 1) throw new Error('Operation returned an invalid status');
      };
      expect(await deploy(app, '1.0.0+next')).toMatchObject(failed('give it the traffic', back));
      expect(await versionAt(app)).toBe('1.0.0+first');
      expect(await slotAnswers(app)).toBe(503);
    }, 60_000);

    test('where the traffic cannot be had back it is said what answers, and how to get it', async () => {
      app.faults.before = failing('az webapp deployment slot swap', 2);
      app.faults.afterSwap = () => {
        throw new Error('Operation returned an invalid status');
      };
      const next = await deploy(app, '1.0.0+next');
      expect(next.said).toMatch(
        /“give it the traffic”\. The version that ran before, 1\.0\.0\+first, was to have its traffic back, but 1\.0\.0\+next answers there: `az webapp deployment slot swap [^`]*` gives it back\.$/,
      );
      expect(await versionAt(app)).toBe('1.0.0+next');
      // What serves is in no slot that was stopped, and the command that is named does what it says.
      const [, command = ''] = /`([^`]*)`/.exec(next.said) ?? [];
      app.faults.afterSwap = () => undefined;
      await execa('bash', ['-c', command], { env: app.env });
      expect(await versionAt(app)).toBe('1.0.0+first');
    }, 60_000);

    test('where nothing answers after a swap that failed, it is not said who has the traffic', async () => {
      app.faults.before = (words) => {
        if (words !== 'az webapp deployment slot swap') return;
        app.faults.silent = true;
        throw new Error('Operation returned an invalid status');
      };
      const next = await deploy(app, '1.0.0+next');
      app.faults.silent = false;
      expect(next.said).toMatch(
        /“give it the traffic”\. It is not known what has the traffic: `[^`]*slot swap[^`]*` gives it back\.$/,
      );
      expect(app.calls.at(-1)).toContain('slot swap');
    }, 60_000);

    test('of the same version again it is not said which configuration has the traffic when the swap failed', async () => {
      app.faults.before = failing('az webapp deployment slot swap');
      const again = await deploy(app, '1.0.0+first');
      expect(again.status).toBe(1);
      expect(again.said).toMatch(
        /nexus 1\.0\.0\+first, which ran before too, has the traffic; whether as it is configured now is not known: deploy again\.$/,
      );
      expect(await slotAnswers(app)).toBe(503);
    }, 60_000);

    test.each([
      ['az webapp show', 1, 1, 'look at what runs', 'Nothing was changed.'],
      ['az webapp show', 2, 2, 'look at what runs', 'Nothing was changed.'],
      ['az webapp stop', 1, 1, 'stop the slot staging', still],
      ['az webapp config appsettings set', 1, 1, 'configure the slot staging', still],
      ['az webapp start', 1, 1, 'start the slot staging', still],
      ['az webapp deploy', 1, 3, 'put the artifact into the slot staging', still],
      ['az webapp deployment slot swap', 1, 1, 'give it the traffic', still],
    ])('where %s (%i to %i) fails its step is named and nothing has changed', async (...row) => {
      const [command, nth, last, step, state] = row;
      app.faults.before = failing(command, nth, last);
      const next = await deploy(app, '1.0.0+next');
      expect(next).toMatchObject(failed(step, state));
      expect(next.stderr).toContain('AuthorizationFailed');
      expect(await versionAt(app)).toBe('1.0.0+first');
      expect(await slotAnswers(app)).toBe(503);
    });

    test('where the old version cannot be stopped at the end, that is said', async () => {
      app.faults.before = failing('az webapp stop', 2);
      expect(await deploy(app, '1.0.0+next')).toMatchObject(
        failed(
          'stop the old version in the slot staging',
          'nexus 1.0.0+next has the traffic, and the version before it runs on in the slot.',
        ),
      );
      expect(await versionAt(app)).toBe('1.0.0+next');
    }, 60_000);
  });

  test('no value of the configuration is on a command line', async () => {
    const app = await forOneTest();
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
      NEXUS_STORE_ACCOUNT: 'azurite',
      NEXUS_TRUST_PROXY: '1',
      AZURE_CLIENT_ID: 'client',
      WEBSITE_RUN_FROM_PACKAGE: '1',
    });
  }, 60_000);
});

describe('on Container Apps', () => {
  let count = 0;
  async function containerApps() {
    const place = path.join(directory, `apps-${++count}`);
    await mkdir(place);
    return await openContainerApps(place, own());
  }
  type Apps = Awaited<ReturnType<typeof containerApps>>;
  async function forOneTest(): Promise<Apps> {
    const apps = await containerApps();
    onTestFinished(() => apps.close());
    return apps;
  }
  let runs = 0;
  const to = () => ({ DEPLOY_TO: 'container-apps', GITHUB_RUN_ID: String(++runs) });

  test('a new version takes over without a request lost, and the old one is stopped', async () => {
    const apps = await forOneTest();
    expect(await deploy(apps, '1.0.0+first', to())).toMatchObject({ status: 0 });
    const leave = visitor(apps);
    expect(await deploy(apps, '1.0.0+next', to())).toMatchObject({ status: 0 });
    expect(await versionAt(apps)).toBe('1.0.0+next');
    expect(Object.keys(await leave())).toEqual(['200']);
    expect(apps.running()).toEqual([`app--vnext-${runs}-1`]);
  }, 60_000);

  test('where the traffic is split nothing is deployed, and it is said what to do', async () => {
    const apps = await forOneTest();
    apps.split();
    const next = await deploy(apps, '1.0.0+next', to());
    expect(next.said).toMatch(
      /“hold the traffic where it is”\. No one revision has all of the traffic: `az containerapp ingress traffic set .* --revision-weight REVISION=100` gives it to one\./,
    );
    expect(apps.calls.join('\n')).not.toContain('containerapp update');
  }, 60_000);

  test('of a first version that is sick it is said that there is none before it', async () => {
    const apps = await forOneTest();
    apps.faults.afterTraffic = async () => void (await apps.site()?.kill('SIGKILL'));
    expect(await deploy(apps, '1.0.0+next', { ...to(), CHECK_SECONDS: '3' })).toMatchObject(
      failed('check what has the traffic', `${none}, so nothing was taken back; there answers now: none.`),
    );
  }, 60_000);

  describe('where a version runs', () => {
    let apps: Apps;
    let first: string;
    beforeAll(async () => {
      apps = await containerApps();
      await deployFirst(apps, to());
      first = `app--vfirst-${runs}-1`;
    }, 60_000);
    afterAll(() => apps.close());
    beforeEach(() => {
      for (const name of ['before', 'afterUpdate', 'afterTraffic'] as const) delete apps.faults[name];
    });
    const sick = async () => {
      if ((await versionAt(apps)) === '1.0.0+next') await apps.site()?.kill('SIGKILL');
    };

    test('one that does not start gets no traffic and is stopped', async () => {
      apps.followLatest();
      const leave = visitor(apps);
      expect(await deploy(apps, '1.0.0+next', { ...to(), ...wrongKeys })).toMatchObject(
        failed('check the new revision', still),
      );
      expect(await versionAt(apps)).toBe('1.0.0+first');
      expect(Object.keys(await leave())).toEqual(['200']);
      expect(apps.running()).toEqual([first]);
    }, 60_000);

    test('what is sick once it has the traffic is taken back, and stopped', async () => {
      apps.faults.afterTraffic = sick;
      expect(await deploy(apps, '1.0.0+next', { ...to(), CHECK_SECONDS: '3' })).toMatchObject(
        failed('check what has the traffic', back),
      );
      expect(await versionAt(apps)).toBe('1.0.0+first');
      expect(apps.running()).toEqual([first]);
    }, 60_000);

    test('an update that fails after it is done leaves no revision that runs', async () => {
      apps.faults.afterUpdate = () => {
        throw new Error('timed out');
      };
      expect(await deploy(apps, '1.0.0+next', to())).toMatchObject(failed('start the new revision', still));
      expect(apps.running()).toEqual([first]);
    }, 60_000);

    test('traffic that goes over in a command that fails is taken back', async () => {
      apps.faults.afterTraffic = async () => {
        if ((await versionAt(apps)) === '1.0.0+next') throw new Error('timed out');
      };
      expect(await deploy(apps, '1.0.0+next', to())).toMatchObject(failed('give it the traffic', back));
      expect(await versionAt(apps)).toBe('1.0.0+first');
      expect(apps.running()).toEqual([first]);
    }, 60_000);

    test('where the traffic cannot be had back it is said what answers, and how to get it', async () => {
      apps.faults.before = failing('az containerapp ingress traffic set', 3);
      apps.faults.afterTraffic = sick;
      const next = await deploy(apps, '1.0.0+next', { ...to(), CHECK_SECONDS: '3' });
      expect(next.said).toMatch(
        /1\.0\.0\+first, was to have its traffic back, but no version answers there: `az containerapp ingress traffic set [^`]*` gives it back\.$/,
      );
      const [, command = ''] = /`([^`]*)`/.exec(next.said) ?? [];
      await execa('bash', ['-c', command], { env: apps.env });
      const tried = ['--revision', `app--vnext-${runs}-1`];
      await execa('az', ['containerapp', 'revision', 'deactivate', ...tried], { env: apps.env });
      expect(await versionAt(apps)).toBe('1.0.0+first');
    }, 60_000);

    test.each([
      ['az containerapp show', 1, 'look at what runs', 'Nothing was changed.'],
      ['az acr login', 1, 'build and push the image', still],
      ['docker build', 1, 'build and push the image', still],
      ['docker push', 1, 'build and push the image', still],
      ['az containerapp revision list', 1, 'hold the traffic where it is', still],
      ['az containerapp ingress traffic set', 1, 'hold the traffic where it is', still],
      ['az containerapp revision show', 1, 'check the new revision', still],
      ['az containerapp ingress traffic set', 2, 'give it the traffic', back],
    ])('where %s (%i) fails its step is named and nothing has changed', async (command, nth, step, state) => {
      apps.faults.before = failing(command, nth);
      const next = await deploy(apps, '1.0.0+next', to());
      expect(next).toMatchObject(failed(step, state));
      expect(next.stderr).toContain('AuthorizationFailed');
      expect(await versionAt(apps)).toBe('1.0.0+first');
      expect(apps.running()).toEqual([first]);
    });

    test('where there is no revision to be stopped after an update that failed, that is said', async () => {
      apps.faults.before = failing('az containerapp update');
      const next = await deploy(apps, '1.0.0+next', to());
      expect(next.said).toMatch(
        /“start the new revision”\. .* still runs\. What was tried may run on: `az containerapp revision deactivate [^`]*` stops it\.$/,
      );
      expect(await versionAt(apps)).toBe('1.0.0+first');
    });

    test('where the old revision cannot be stopped at the end, that is said', async () => {
      apps.faults.before = failing('az containerapp revision deactivate');
      expect(await deploy(apps, '1.0.0+next', to())).toMatchObject(
        failed(
          'stop the old revision',
          'nexus 1.0.0+next has the traffic, and the old revision runs beside it.',
        ),
      );
    }, 60_000);
  });
});

test.each([
  ['DEPLOY_TO', 'the-moon', 'choose between app-service and container-apps, and not the-moon', ''],
  ...['AZURE_RESOURCE_GROUP', 'AZURE_APP', 'AZURE_REGISTRY', 'NEXUS_KEYS', 'NEXUS_STORE_ACCOUNT'].map(
    (name) => [
      name,
      '',
      'read what is to be deployed, and where',
      `${name} is not said: set it as a variable of the repository. `,
    ],
  ),
])('%s being “%s” is said before anything is done', async (name = '', value = '', step = '', state = '') => {
  const target = { env: { DEPLOY_TO: 'container-apps', STANDIN: 'http://127.0.0.1:9' }, url: '' };
  const next = await deploy(target, '1.0.0+next', { [name]: value });
  expect(next.status).toBe(1);
  expect(next.said).toContain(`failed at the step “${step}”. ${state}Nothing was changed.`);
});
