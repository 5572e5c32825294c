// The tests of backfill once more, over `serve` on the Azure store.
import { describe } from 'vitest';
import { shipOverAzure } from './overazure.ts';

await shipOverAzure();

describe('over serve on Azure', async () => {
  await import('./backfill.test.ts');
});
