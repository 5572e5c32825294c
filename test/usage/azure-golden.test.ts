// The real stores once more, over `serve` on the Azure store.
import { describe } from 'vitest';
import { shipOverAzure } from '../jobs/overazure.ts';
import { goldenTests } from './golden.ts';

await shipOverAzure();

describe('over serve on Azure', () => {
  goldenTests();
});
