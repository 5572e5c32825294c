import { createDefaultHttpClient, type HttpClient } from '@azure/core-rest-pipeline';
import { type TableClient, TableClient as Table } from '@azure/data-tables';
import { BlobServiceClient, type ContainerClient } from '@azure/storage-blob';
import { NexusError } from '../errors.ts';
import { isAzure, strange } from './azure-errors.ts';

export interface AzureOptions {
  /** Of a storage account, with its key or a shared access signature. */
  connectionString?: string | undefined;
  /** Name of a storage account, used as whoever this machine is logged in as. */
  account?: string | undefined;
  /** Where accounts lie. Default `core.windows.net`. */
  endpointSuffix?: string | undefined;
  /** Before the names of containers and tables, so that two installations share an account: a-z and 0-9, at most 20. */
  prefix?: string | undefined;
  /** The longest that one call may take, ms. Default 30,000. */
  timeoutMs?: number | undefined;
  /** Of a store that has no id yet, `id` is `not_found` and makes none: for who only looks. */
  onlyLook?: boolean | undefined;
  /** Appends that one blob takes, where that is less than the service's own 50,000. Costs a request for each append. */
  maxBlocks?: number | undefined;
}

/** The clients of one account. Made here, where nothing is sent yet. */
export interface Account {
  container(name: string): ContainerClient;
  table(name: string): TableClient;
}

const blobOptions = { retryOptions: { maxTries: 1 } };

/** The SDK takes whatever answers 200 for rows, or for none; of blobs, `azure-calls` looks at the answers. */
function rowOptions() {
  const client = createDefaultHttpClient();
  const httpClient: HttpClient = {
    async sendRequest(request) {
      const answer = await client.sendRequest(request);
      if (!isAzure(answer.status, (name) => answer.headers.get(name))) throw strange(answer.status);
      return answer;
    },
  };
  return { retryOptions: { maxRetries: 0 }, httpClient };
}

/** `config` for options that name no account. */
export async function openAccount(options: AzureOptions): Promise<Account> {
  const { prefix = '' } = options;
  if (!/^([a-z][a-z0-9]{0,19})?$/.test(prefix))
    throw new NexusError('config', `${JSON.stringify(prefix)} cannot be a prefix of containers and tables.`, {
      hint: 'Use small letters and digits, at most 20, beginning with a letter.',
    });
  const { blobs, table } = await clients(options);
  const containers = new Map<string, ContainerClient>();
  const tables = new Map<string, TableClient>();
  return {
    container: (name) =>
      kept(containers, name, () => blobs.getContainerClient(prefix === '' ? name : `${prefix}-${name}`)),
    table: (name) => kept(tables, name, () => table(`${prefix}${name}`)),
  };
}

interface Clients {
  blobs: BlobServiceClient;
  table: (name: string) => TableClient;
}

async function clients(options: AzureOptions): Promise<Clients> {
  const { connectionString, account, endpointSuffix = 'core.windows.net' } = options;
  if (connectionString !== undefined) {
    try {
      const blobs = BlobServiceClient.fromConnectionString(connectionString, blobOptions);
      const rows = { ...rowOptions(), allowInsecureConnection: blobs.url.startsWith('http:') };
      const table = (name: string): TableClient => Table.fromConnectionString(connectionString, name, rows);
      table('Probe'); // a connection string without tables is refused here
      return { blobs, table };
    } catch {
      // The SDKs' messages may quote it.
      throw new NexusError(
        'config',
        'store.connectionString is not one of a storage account with blobs and tables.',
        {
          hint: 'Copy it from the account in the Azure portal, or from `az storage account show-connection-string`.',
        },
      );
    }
  }
  if (account === undefined || !/^[a-z0-9]{3,24}$/.test(account))
    throw new NexusError('config', 'The Azure store needs store.connectionString, or store.account.');
  const { DefaultAzureCredential } = await import('@azure/identity');
  const credential = new DefaultAzureCredential();
  const rows = rowOptions();
  return {
    blobs: new BlobServiceClient(`https://${account}.blob.${endpointSuffix}`, credential, blobOptions),
    table: (name) => new Table(`https://${account}.table.${endpointSuffix}`, name, credential, rows),
  };
}

function kept<T>(made: Map<string, T>, name: string, make: () => T): T {
  const there = made.get(name) ?? make();
  made.set(name, there);
  return there;
}
