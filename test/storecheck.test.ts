import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  AccountSASPermissions,
  AccountSASResourceTypes,
  AccountSASServices,
  BlobServiceClient,
  generateAccountSASQueryParameters,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkStore } from '../src/storecheck.ts';
import { containers, tables } from '../src/storecontents.ts';
import { openAzureStore } from '../src/stores/azure.ts';
import { openLocalStore } from '../src/stores/local.ts';
import type { Store } from '../src/stores/store.ts';
import { type Azurite, freshPrefix, startAzurite } from './stores/azurite.ts';
import { collect, ids } from './stores/outcomes.ts';

let azurite: Azurite;
beforeAll(async () => {
  azurite = await startAzurite();
}, 60_000);
afterAll(async () => {
  await azurite.stop();
});

async function nothingIsLeft(store: Store): Promise<void> {
  for (const container of Object.keys(containers))
    expect(await collect(store.list(`${container}/`))).toEqual([]);
  for (const table of tables) expect(await ids(store.rows(table, 'nexus-check'))).toEqual([]);
}

test('all of it works on an embedded store, and no probe is left', async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'nexus-check-'));
  const store = await openLocalStore(directory);
  expect((await checkStore(store)).filter(({ ok }) => !ok)).toEqual([]);
  await nothingIsLeft(store);
  await store.close();
  expect(await readdir(directory)).toContain('store.sqlite');
  await rm(directory, { recursive: true });
});

test('all of it works on Azure, in every container and table, and no probe is left', async () => {
  const store = await openAzureStore({ connectionString: azurite.connectionString, prefix: freshPrefix() });
  const steps = await checkStore(store);
  expect(steps.filter(({ ok }) => !ok)).toEqual([]);
  expect(new Set(steps.map(({ place }) => place)).size).toBe(
    1 + Object.keys(containers).length + tables.length,
  );
  await nothingIsLeft(store);
  await store.close();
});

test.each([
  ['rwacul', 'remove', /^delete (blobs|entities)/],
  ['rl', 'write', /^(create|add)/],
  ['wacudl', 'read', /^read (blobs|entities)/],
])(
  'with a signature for %s alone the permission for %s is named as missing',
  async (sp, step, permission) => {
    const prefix = freshPrefix();
    const full = await openAzureStore({ connectionString: azurite.connectionString, prefix });
    await checkStore(full);
    const store = await openAzureStore({ connectionString: signedFor(sp), prefix });
    const failed = (await checkStore(store)).filter(({ ok }) => !ok);
    const missing = failed.filter((one) => one.step === step);
    expect(missing.length).toBeGreaterThanOrEqual(Object.keys(containers).length);
    for (const one of missing) expect(one.missing).toMatch(permission);
    expect(JSON.stringify(failed)).not.toMatch(/sig=|keep its promise/);
    await Promise.all([full.close(), store.close()]);
  },
);

/** A connection string with a shared access signature for these permissions. */
function signedFor(permissions: string): string {
  const { credential } = BlobServiceClient.fromConnectionString(azurite.connectionString);
  if (!(credential instanceof StorageSharedKeyCredential)) throw new Error('no key');
  const signature = generateAccountSASQueryParameters(
    {
      services: AccountSASServices.parse('bt').toString(),
      resourceTypes: AccountSASResourceTypes.parse('sco').toString(),
      permissions: AccountSASPermissions.parse(permissions),
      expiresOn: new Date(Date.now() + 3_600_000),
    },
    credential,
  );
  const account = '/devstoreaccount1';
  return `BlobEndpoint=${azurite.blobs}${account};TableEndpoint=${azurite.tables}${account};SharedAccessSignature=${signature.toString()}`;
}

test('every table and container that the code names is checked and copied', async () => {
  const source = path.join(import.meta.dirname, '..', 'src');
  const named = new Set<string>();
  for (const file of (await readdir(source, { recursive: true })).filter((name) => name.endsWith('.ts'))) {
    const text = await readFile(path.join(source, file), 'utf8');
    const uses = /\b(?:insert|put|rows|removeRows|rowOf)\(\s*(?:\w+,\s*)?'([A-Z]\w+)'/g;
    for (const [, table] of text.matchAll(uses)) named.add(table ?? '');
  }
  expect([...named].filter((table) => !tables.some((known) => known === table))).toEqual([]);
  expect(named.size).toBeGreaterThan(2);
});
