// What `nexus backfill` is measured against: the same calls by the SDKs alone, of files that are read whole.
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { TableClient } from '@azure/data-tables';
import { BlobServiceClient } from '@azure/storage-blob';

const [connectionString = '', directory = '', prefix = '', atOnce = '16'] = process.argv.slice(2);
const container = BlobServiceClient.fromConnectionString(connectionString).getContainerClient(
  `${prefix}-sessions`,
);
const table = TableClient.fromConnectionString(connectionString, `${prefix}Sessions`, {
  allowInsecureConnection: true,
});
await Promise.all([container.createIfNotExists(), table.createTable()]);
const names = (await readdir(directory)).filter((name) => name.endsWith('.jsonl')).values();

async function worker(): Promise<void> {
  for (const name of names) {
    const bytes = await readFile(path.join(directory, name));
    const blob = container.getAppendBlobClient(`inbox/main/${name}`);
    await blob.create({ conditions: { ifNoneMatch: '*' } });
    await blob.appendBlock(bytes, bytes.length, { conditions: { appendPosition: 0 } });
    const key = { partitionKey: 'main', rowKey: name };
    try {
      await table.getEntity(key.partitionKey, key.rowKey);
    } catch (error) {
      if (!(error instanceof Error && 'statusCode' in error && error.statusCode === 404)) throw error;
    }
    await table.upsertEntity({ ...key, length: bytes.length, complete: true }, 'Replace');
  }
}
await Promise.all(Array.from({ length: Number(atOnce) }, worker));
