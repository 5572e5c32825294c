// The tests of backfill once more, over `serve` on the Azure store.
import { describe } from 'vitest';
import { shipOverAzure } from './overazure.ts';

await shipOverAzure([
  'moves nothing and ships nothing where there is a store',
  'finds one flipped bit and names the transcript',
  'finds a stored file that was cut short',
  'finds a stored file that was taken away',
]);

describe('over serve on Azure', async () => {
  await import('./backfill.test.ts');
});
