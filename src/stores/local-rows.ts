import { setImmediate } from 'node:timers/promises';
import { NexusError } from '../errors.ts';
import type { Database } from './local-database.ts';
import { type Row, type Store, type TableRow, checkKey, checkRow, checkTable } from './store.ts';

export type Rows = Pick<Store, 'insert' | 'insertAll' | 'put' | 'rows' | 'removeRows'>;

// Rows are read in pages, each a statement of its own: a snapshot kept open would keep the WAL from being emptied.
const pageSize = 500;

/** Rows as JSON in one SQLite table, ordered by the bytes of their ids. */
export function localRows(database: Database): Rows {
  const { sqlite } = database;
  const insert = sqlite.prepare(
    'INSERT INTO rows (tbl, partition, id, json) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING',
  );
  const exists = sqlite.prepare('SELECT 1 FROM rows WHERE tbl = ? AND partition = ? AND id = ?');
  const replace = sqlite.prepare(
    'INSERT OR REPLACE INTO rows (tbl, partition, id, json) VALUES (?, ?, ?, ?)',
  );
  const select = sqlite.prepare(
    'SELECT id, json FROM rows WHERE tbl = ? AND partition = ? AND id >= ? AND id < ? ORDER BY id LIMIT ?',
  );
  const remove = sqlite.prepare('DELETE FROM rows WHERE tbl = ? AND partition = ? AND id = ?');

  async function insertAll(rows: readonly TableRow[]): Promise<number> {
    const given = rows.map(({ table, row }) => {
      checkRow(table, row);
      return [table, row.partition, row.id, jsonOf(row)] as const;
    });
    if (given.length === 0) return 0;
    let added = 0;
    await database.commit(() => {
      added = 0;
      for (const [table, partition, id, json] of given) {
        if (insert.run(table, partition, id, json).changes !== 1) return;
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
      const json = jsonOf(row);
      await database.commit(() => {
        replace.run(table, row.partition, row.id, json);
      });
    },

    async *rows(table, partition, range = {}) {
      checkTable(table);
      checkKey(partition);
      let from = range.from ?? '';
      const before = range.before ?? '\u007f';
      for (;;) {
        const page = await database.read(() => select.all(table, partition, from, before, pageSize));
        for (const { id, json } of page) yield rowFrom(table, partition, id, json);
        const last = page.at(-1);
        if (last === undefined || page.length < pageSize) return;
        from = `${String(last['id'])}\u0000`;
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

function rowFrom(table: string, partition: string, id: unknown, json: unknown): Row {
  try {
    const fields: Record<string, string | number | boolean> = JSON.parse(String(json));
    return { ...fields, partition, id: String(id) };
  } catch (error) {
    throw new NexusError('corrupt', `The row ${partition}/${String(id)} of ${table} cannot be read.`, {
      cause: error,
    });
  }
}
