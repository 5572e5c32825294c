// `npm run rehearse-deploy`: what .github/workflows/deploy.yml does, on this machine. The artifact is made and deployed
// by the same scripts; Azurite is the storage account, and App Service a stand-in that starts what it is given.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { execa } from 'execa';
import { openClient } from '../../src/http/client.ts';
import { hashKey, makeKey } from '../../src/keys.ts';
import { startAzurite } from '../stores/azurite.ts';
import { openAppService } from './appservice.ts';
import { makeArtifact, project } from './artifact.ts';

const directory = await mkdtemp(path.join(tmpdir(), 'nexus-rehearsal-'));
const azurite = await startAzurite();
const app = await openAppService(directory, { NEXUS_STORE_CONNECTION_STRING: azurite.connectionString });
const key = makeKey();
const keys = [{ name: 'rehearsal', hash: hashKey(key), agents: '*', scopes: ['upload', 'read'] }];

async function deploy(zip: string, more: Record<string, string> = {}): Promise<boolean> {
  const { exitCode } = await execa(path.join(project, '.ci', 'deploy'), [zip], {
    env: {
      ...app.env,
      AZURE_RESOURCE_GROUP: 'group',
      AZURE_APP: 'app',
      NEXUS_KEYS: JSON.stringify(keys),
      NEXUS_STORE_ACCOUNT: 'azurite',
      CHECK_SECONDS: '20',
      ...more,
    },
    stdio: ['ignore', 'inherit', 'inherit'],
    reject: false,
  });
  return exitCode === 0;
}

function say(line: string): void {
  process.stdout.write(`\n-- ${line}\n`);
}

async function version(): Promise<unknown> {
  return Object(await (await fetch(`${app.url}/healthz`)).json()).version;
}

function insist(what: string, holds: boolean): void {
  process.stdout.write(`${holds ? 'yes' : 'NO'}: ${what}\n`);
  if (!holds) process.exitCode = 1;
}

try {
  say('The artifact.');
  const artifact = await makeArtifact(directory);
  say(`nexus ${artifact.version}, for the first time.`);
  insist('it is deployed', await deploy(artifact.zip));
  const nexus = openClient({ endpoint: app.url, key });
  await nexus.append('main', 'rehearsal', 0, Buffer.from('{"type":"session"}\n'), {
    complete: true,
    about: {},
  });
  say('The same with a configuration that is wrong.');
  insist(
    'it is refused',
    !(await deploy(artifact.zip, { NEXUS_KEYS: '[{"name":"broken"}]', CHECK_SECONDS: '3' })),
  );
  insist('the version before serves', (await version()) === artifact.version);
  say('The same again, over what is left of that.');
  insist('it is deployed', await deploy(artifact.zip));
  say('kill -9, and a new start on an empty disk.');
  await app.crash();
  const pieces: Uint8Array[] = [];
  for await (const piece of nexus.read('main', 'rehearsal')) pieces.push(piece);
  insist('nothing is lost', Buffer.concat(pieces).toString() === '{"type":"session"}\n');
} finally {
  await app.close();
  await azurite.stop();
  await rm(directory, { recursive: true, force: true });
}
