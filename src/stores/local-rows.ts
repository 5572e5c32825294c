import { setImmediate } from 'node:timers/promises';
import { NexusError } from '../errors.ts';
import type { Database } from './local-database.ts';
import { rowSum } from './local-sums.ts';
import { type Row, type Store, type TableRow, checkKey, checkRow, checkTable } from './store.ts';

export type Rows = Pick<Store, 'insert' | 'insertAll' | 'put' | 'rows' | 'removeRows'>;

// Rows are read in pages, each a statement of its own: a snapshot kept open would keep the WAL from being emptied.
const pageSize = 500;

/** Rows as JSON in one SQLite table, ordered by the bytes of their ids. */
export function localRows(database: Database): Rows {
  const { sqlite } = database;
  const insert = sqlite.prepare(
    'INSERT INTO rows (tbl, partition, id, json, sum) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING',
  );
  const exists = sqlite.prepare('SELECT 1 FROM rows WHERE tbl = ? AND partition = ? AND id = ?');
  const replace = sqlite.prepare(
    'INSERT OR REPLACE INTO rows (tbl, partition, id, json, sum) VALUES (?, ?, ?, ?, ?)',
  );
  const select = sqlite.prepare(
    'SELECT id, json, sum FROM rows WHERE tbl = ? AND partition = ? AND id >= ? AND id < ? ORDER BY id LIMIT ?',
  );
  // Rot may have made a sum too large for another number.
  select.setReadBigInts(true);
  const remove = sqlite.prepare('DELETE FROM rows WHERE tbl = ? AND partition = ? AND id = ?');

  async function insertAll(rows: readonly TableRow[]): Promise<number> {
    const given = rows.map(({ table, row }) => {
      checkRow(table, row);
      return valuesOf(table, row);
    });
    if (given.length === 0) return 0;
    let added = 0;
    await database.commit(() => {
      added = 0;
      for (const values of given) {
        if (insert.run(...values).changes !== 1) return;
        added++;
      }
    });
    return added;
  }

  return {
    async insert(table, row) {
      checkRow(table, row);
      // The usual refusal needs no transaction, which only one process can be in.
      const taken = await database.read(() => exists.get(table, row.partition, row.id));
      if (taken !== undefined || (await insertAll([{ table, row }])) === 0)
        throw new NexusError('conflict', `${table} has a row ${row.partition}/${row.id} already.`);
    },

    insertAll,

    async put(table, row) {
      checkRow(table, row);
      const values = valuesOf(table, row);
      await database.commit(() => {
        replace.run(...values);
      });
    },

    async *rows(table, partition, range = {}, rotted) {
      checkTable(table);
      checkKey(partition);
      let from = range.from ?? '';
      const before = range.before ?? '\u007f';
      const told = new Set<string>();
      for (;;) {
        const page = await database.read(() => select.all(table, partition, from, before, pageSize));
        let last: string | undefined;
        for (const { id, json, sum } of page) {
          const row = rowFrom(table, partition, id, json, database.summed ? Number(sum) : sum);
          if (!(row instanceof NexusError)) {
            last = row.id;
            yield row;
            continue;
          }
          if (rotted === undefined) throw row;
          if (!told.has(String(id))) rotted(String(id), row);
          told.add(String(id));
        }
        if (page.length < pageSize) return;
        // A rotted id may be a place where this listing was before.
        if (last === undefined) throw damaged(table, partition, '…');
        from = `${last}\u0000`;
        // Reading waits for nothing: without this nobody else would have a turn before the last page.
        await setImmediate();
      }
    },

    async removeRows(table, partition, ids) {
      checkTable(table);
      checkKey(partition);
      for (const id of ids) checkKey(id);
      if (ids.length === 0) return;
      const gone = [...ids];
      await database.commit(() => {
        for (const id of gone) remove.run(table, partition, id);
      });
    },
  };
}

function jsonOf(row: Row): string {
  return JSON.stringify({ ...row, partition: undefined, id: undefined });
}

function valuesOf(table: string, row: Row): [string, string, string, string, number] {
  const json = jsonOf(row);
  return [table, row.partition, row.id, json, rowSum(table, row.partition, row.id, json)];
}

/** The row, or what is wrong with it. */
export function rowFrom(
  table: string,
  partition: string,
  id: unknown,
  json: unknown,
  sum: unknown,
): Row | NexusError {
  if (typeof id !== 'string' || typeof json !== 'string') return damaged(table, partition, String(id));
  if (sum !== null && Number(sum) !== rowSum(table, partition, id, json))
    return damaged(table, partition, id);
  try {
    const fields: Record<string, string | number | boolean> = JSON.parse(json);
    return { ...fields, partition, id };
  } catch (error) {
    return damaged(table, partition, id, error);
  }
}

function damaged(table: string, partition: string, id: string, cause?: unknown): NexusError {
  return new NexusError('corrupt', `The row ${partition}/${id} of ${table} is not what was stored.`, {
    hint: 'Restore store.sqlite from a backup.',
    ...(cause === undefined ? {} : { cause }),
  });
}
