// The tests of upload once more, over `serve` on the Azure store.
import { describe, expect, test } from 'vitest';
import { ids, makeHost, transcript } from './host.ts';
import { shipOverAzure } from './overazure.ts';

await shipOverAzure();

describe('over serve on Azure', async () => {
  await import('./upload.test.ts');

  test('nothing is moved whose stored bytes are no longer the ones that were stored', async () => {
    const host = await makeHost();
    await host.write(`${ids.a}.jsonl.reset.2026-11-20T11-00-00.000Z`, transcript(ids.a, 1));
    await host.upload({ config: { afterUpload: 'keep' } });
    const store = await host.openStore();
    const name = `sessions/inbox/main/${ids.a}.jsonl`;
    await store.remove(name);
    await store.append(name, 0, Buffer.from(transcript(ids.a, 1, 'olleh')));
    await store.close();
    expect(await host.upload()).toMatchObject({ ok: false, moved: 0 });
    await host.remove();
  });

  test('a transcript that was removed there is stored again', async () => {
    const host = await makeHost();
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 3));
    await host.upload();
    const store = await host.openStore();
    await store.remove(`sessions/inbox/main/${ids.a}.jsonl`);
    await store.removeRows('Sessions', 'main', [ids.a]);
    await store.close();
    await host.backfill({ verify: true });
    expect((await host.stored()).get(`main/${ids.a}`)?.toString()).toBe(transcript(ids.a, 3));
    await host.remove();
  });
});
