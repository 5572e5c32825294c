import { type AzureOptions, openAccount } from './azure-account.ts';
import { azureBlobs } from './azure-blobs.ts';
import { azureCalls } from './azure-calls.ts';
import { azureRows } from './azure-rows.ts';
import type { Store } from './store.ts';

export type { AzureOptions } from './azure-account.ts';

/**
 * A store in an Azure storage account: blobs in Blob Storage, rows in Table Storage, for any number of processes on
 * any number of machines. Sends nothing yet: containers and tables are made by the first write to them.
 *
 * A call that meets throttling, a fault of the service or of the network is tried again, as long as the service asks
 * and `timeoutMs` allows, and ends in `unavailable` then. Credentials that do not suffice are `forbidden`, an account
 * that cannot be named `config`.
 */
export async function openAzureStore(options: AzureOptions): Promise<Store> {
  const account = await openAccount(options);
  const calls = azureCalls(options.timeoutMs ?? 30_000);
  return {
    ...azureBlobs(account, calls, options),
    ...azureRows(account, calls),
    // The service keeps sums of its own and gives nothing out that does not fit them.
    async *damage() {},
    close: () => calls.close(),
  };
}
