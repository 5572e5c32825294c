import { randomUUID } from 'node:crypto';
import type { TableEntityResult } from '@azure/data-tables';
import { failedWith, NexusError } from '../errors.ts';
import type { Account } from './azure-account.ts';
import type { Calls, Operation } from './azure-calls.ts';
import { azurePlaces } from './azure-places.ts';
import { type Range, type Row, type Store, checkKey, checkRow, checkTable, fieldsOf } from './store.ts';

export type Rows = Pick<Store, 'insert' | 'insertAll' | 'put' | 'rows' | 'removeRows'>;

const pageSize = 1000;
/** Rows in one transaction. */
const batchSize = 100;
const removalsAtOnce = 8;

/** The random mark of an insert: it tells a conflict with another from the echo of our own request. */
const markField = 'write_';
/** Names that the SDK or the service keeps for itself or loses on the way, stored with "_" after them. */
const ownNames = new Set(['etag', 'timestamp', 'partitionkey', 'rowkey']);
const objectNames = new Set(Object.getOwnPropertyNames(Object.prototype));
const reserved = (field: string): boolean => ownNames.has(field.toLowerCase()) || objectNames.has(field);
const absences = ['ResourceNotFound', 'EntityNotFound', 'TableNotFound'] as const;

type Entity = TableEntityResult<Record<string, unknown>>;

/** Rows as entities whose properties are the fields. */
export function azureRows(account: Account, calls: Calls): Rows {
  const tables = azurePlaces('table', (name, signal) =>
    account.table(name).createTable({ abortSignal: signal }),
  );

  async function get(
    operation: Operation,
    table: string,
    partition: string,
    id: string,
  ): Promise<Entity | undefined> {
    const client = account.table(table);
    const known = tables.known(table);
    const answer = await operation.send(
      (signal) => client.getEntity(partition, id, { abortSignal: signal }),
      absences,
    );
    tables.answered(table, answer.refused, known);
    return answer.value;
  }

  async function removeOne(
    operation: Operation,
    table: string,
    partition: string,
    id: string,
  ): Promise<void> {
    const client = account.table(table);
    const known = tables.known(table);
    const answer = await operation.send(
      (signal) => client.deleteEntity(partition, id, { abortSignal: signal }),
      absences,
    );
    tables.answered(table, answer.refused, known);
  }

  async function removeBatch(
    operation: Operation,
    table: string,
    partition: string,
    ids: string[],
  ): Promise<void> {
    const client = account.table(table);
    const known = tables.known(table);
    const answer = await operation.send(
      (signal) =>
        client.submitTransaction(
          ids.map((id) => ['delete', { partitionKey: partition, rowKey: id }]),
          { abortSignal: signal },
        ),
      absences,
    );
    tables.answered(table, answer.refused, known);
    if (answer.refused !== undefined && answer.refused !== 'TableNotFound') {
      // One that is absent refuses them all.
      const rest = ids.values();
      const worker = async (): Promise<void> => {
        for (const id of rest) await removeOne(operation, table, partition, id);
      };
      const results = await Promise.allSettled(Array.from({ length: removalsAtOnce }, worker));
      for (const result of results) if (result.status === 'rejected') throw result.reason;
    }
  }

  async function insert(table: string, row: Row): Promise<void> {
    checkRow(table, row);
    const mark = randomUUID();
    const entity = { ...entityOf(row), [markField]: mark };
    const client = account.table(table);
    await calls.during(`insert a row into ${table}`, async (operation) => {
      const answer = await tables.write(
        table,
        operation,
        (signal) => client.createEntity(entity, { abortSignal: signal }),
        ['EntityAlreadyExists'],
      );
      if (answer.refused === undefined) return;
      if (answer.repeated && (await get(operation, table, row.partition, row.id))?.[markField] === mark)
        return;
      throw new NexusError('conflict', `${table} has a row ${row.partition}/${row.id} already.`);
    });
  }

  return {
    insert,

    async insertAll(rows) {
      for (const { table, row } of rows) checkRow(table, row);
      let added = 0;
      for (const { table, row } of rows) {
        try {
          await insert(table, row);
        } catch (error) {
          if (!failedWith(error, 'conflict')) throw error;
          return added;
        }
        added++;
      }
      return added;
    },

    async put(table, row) {
      checkRow(table, row);
      const entity = entityOf(row);
      const client = account.table(table);
      await calls.during(`write a row of ${table}`, (operation) =>
        tables.write(
          table,
          operation,
          (signal) => client.upsertEntity(entity, 'Replace', { abortSignal: signal }),
          [],
        ),
      );
    },

    async *rows(table, partition, range = {}) {
      checkTable(table);
      checkKey(partition);
      const what = `read rows of ${table}`;
      if (range.from !== undefined && range.before === `${range.from}\u0000`) {
        const id = range.from;
        checkKey(id);
        const entity = await calls.during(what, (operation) => get(operation, table, partition, id));
        if (entity !== undefined) yield rowOfEntity(entity);
        return;
      }
      const client = account.table(table);
      const filter = filterOf(partition, range);
      let token: string | undefined;
      do {
        const known = tables.known(table);
        const answer = await calls.during(what, (operation) =>
          operation.send(
            async (signal) => {
              const list = client.listEntities({ queryOptions: { filter }, abortSignal: signal });
              const page = await list
                .byPage({
                  maxPageSize: pageSize,
                  ...(token === undefined ? {} : { continuationToken: token }),
                })
                .next();
              return page.done === true ? undefined : page.value;
            },
            ['TableNotFound'],
          ),
        );
        tables.answered(table, answer.refused, known);
        if (answer.refused !== undefined) return;
        // A page may be empty and yet not be the last.
        for (const entity of answer.value ?? []) yield rowOfEntity(entity);
        token = answer.value?.continuationToken;
      } while (token !== undefined);
    },

    async removeRows(table, partition, ids) {
      checkTable(table);
      checkKey(partition);
      for (const id of ids) checkKey(id);
      const gone = [...new Set(ids)];
      for (let first = 0; first < gone.length; first += batchSize) {
        const batch = gone.slice(first, first + batchSize);
        const [only] = batch;
        await calls.during(`remove rows of ${table}`, (operation) =>
          batch.length === 1 && only !== undefined
            ? removeOne(operation, table, partition, only)
            : removeBatch(operation, table, partition, batch),
        );
      }
    },
  };
}

/** Keys are compared by the service as they are here, character by character; no key holds a "\u0000". */
function filterOf(partition: string, { from, before }: Range): string {
  const bound = (key: string, at: 'ge' | 'lt', behind: 'gt' | 'le'): string => {
    const [id = ''] = key.split('\u0000', 1);
    return `RowKey ${id === key ? at : behind} ${quoted(id)}`;
  };
  return [
    `PartitionKey eq ${quoted(partition)}`,
    ...(from === undefined || from === '' ? [] : [bound(from, 'ge', 'gt')]),
    ...(before === undefined ? [] : [bound(before, 'lt', 'le')]),
  ].join(' and ');
}

// The SDK's own `odata` leaves the quotes out where a value stands alone.
function quoted(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

function entityOf(row: Row): { partitionKey: string; rowKey: string; [property: string]: unknown } {
  const properties = fieldsOf(row).map(([field, value]) => [
    reserved(field) ? `${field}_` : field,
    typeof value === 'number'
      ? { type: 'Double', value }
      : typeof value === 'string'
        ? textProperty(value)
        : value,
  ]);
  return { partitionKey: row.partition, rowKey: row.id, ...Object.fromEntries(properties) };
}

/** As bytes where it holds what the wire or the service would change or refuse; a property has the same limit so. */
function textProperty(text: string): string | Uint8Array {
  const plain = text.isWellFormed() && !/[^\P{Cc}\t\n\r]|[\ufffe\uffff]/u.test(text);
  return plain ? text : Buffer.from(text, 'utf16le');
}

function rowOfEntity(entity: Entity): Row {
  const { partitionKey, rowKey, etag: _, timestamp: __, [markField]: ___, ...properties } = entity;
  const row: Row = { partition: String(partitionKey), id: String(rowKey) };
  for (const [property, value] of Object.entries(properties)) {
    if (property.startsWith('odata.')) continue;
    const field = property.endsWith('_') ? property.slice(0, -1) : property;
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
      row[field] = value;
    else if (typeof value === 'bigint') row[field] = Number(value);
    else if (value instanceof Uint8Array) row[field] = Buffer.from(value).toString('utf16le');
  }
  return row;
}
