import { spawn } from 'node:child_process';
import path from 'node:path';

export interface Azurite {
  connectionString: string;
  /** Addresses of its two services, for a proxy: `http://127.0.0.1:12345`. */
  blobs: string;
  tables: string;
  stop: () => Promise<void>;
}

/** Azurite's only account, and the key that it publishes for it. */
export const publishedAccount = {
  account: 'devstoreaccount1',
  key: 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==',
};
const { account, key } = publishedAccount;
const script = path.resolve(
  import.meta.dirname,
  '..',
  '..',
  'node_modules',
  'azurite',
  'dist',
  'src',
  'azurite.js',
);

/** Starts Azurite in memory, on free ports. It keeps nothing: what it has acknowledged ends with it. */
export async function startAzurite(): Promise<Azurite> {
  const args = ['--silent', '--inMemoryPersistence', '--skipApiVersionCheck', '--disableTelemetry'];
  const ports = ['--blobPort', '0', '--queuePort', '0', '--tablePort', '0'];
  const child = spawn(process.execPath, [script, ...args, ...ports], { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  let said = '';
  const [blobs, tables] = await new Promise<string[]>((resolve, reject) => {
    const listen = (part: Buffer): void => {
      said += part.toString();
      const found = ['Blob', 'Table'].map(
        (service) =>
          new RegExp(`Azurite ${service} service is successfully listening at (\\S+)`).exec(said)?.[1],
      );
      const there = found.filter((address) => address !== undefined);
      if (there.length === 2) resolve(there);
    };
    child.stdout.on('data', listen);
    child.stderr.on('data', listen);
    child.once('error', reject);
    child.once('close', () => reject(new Error(`Azurite ended: ${said}`)));
  });
  if (blobs === undefined || tables === undefined) throw new Error('Azurite named no address');
  return {
    blobs,
    tables,
    connectionString: connectionStringOf(blobs, tables),
    async stop() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

export function connectionStringOf(blobs: string, tables: string, accountKey = key): string {
  return [
    `DefaultEndpointsProtocol=http;AccountName=${account};AccountKey=${accountKey}`,
    `BlobEndpoint=${blobs}/${account};TableEndpoint=${tables}/${account}`,
  ].join(';');
}

let count = 0;

/** A prefix that no other test has, so that one Azurite serves many of them. */
export function freshPrefix(): string {
  return `t${process.pid}x${count++}`;
}
