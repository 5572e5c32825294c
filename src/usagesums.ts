import type { DatabaseSync } from 'node:sqlite';
import { crc32 } from 'node:zlib';

/** What answers are summed up from, and named by. `calls` and `copies`, from which it is made, are only asked for what is counted next. */
const tables = ['agents', 'models', 'sessions', 'transcripts', 'rollup'] as const;

/** Lets a connection write to an index and look through it. */
export function allowSums(db: DatabaseSync): void {
  // Of bigints: rot may have made a number too large for another.
  db.function('nexus_sum', { deterministic: true, varargs: true, useBigIntArguments: true }, (...values) =>
    crc32(values.map(textOf).join('\n')),
  );
}

function textOf(value: unknown): string {
  return value instanceof Uint8Array
    ? Buffer.from(value).toString('hex')
    : `${typeof value} ${String(value)}`;
}

/** Keeps of each table the sum of its rows' CRCs, in the transactions that change them. Once, after the tables are made. */
export function keepSums(db: DatabaseSync): void {
  db.exec('CREATE TABLE sums (name TEXT PRIMARY KEY, sum INTEGER NOT NULL) STRICT, WITHOUT ROWID');
  for (const table of tables) {
    const [before, after] = [sumOf(db, table, 'OLD.'), sumOf(db, table, 'NEW.')];
    const add = (change: string) => `BEGIN UPDATE sums SET sum = sum ${change} WHERE name = '${table}'; END`;
    db.exec(`
      INSERT INTO sums VALUES ('${table}', 0);
      CREATE TRIGGER ${table}_made AFTER INSERT ON ${table} ${add(`+ ${after}`)};
      CREATE TRIGGER ${table}_changed AFTER UPDATE ON ${table} ${add(`+ ${after} - ${before}`)};
      CREATE TRIGGER ${table}_gone AFTER DELETE ON ${table} ${add(`- ${before}`)};`);
  }
}

/** False where an answer could be a wrong one: rows, or what leads to them, are not what was written. Reads those tables. */
export function sumsHold(db: DatabaseSync): boolean {
  return tables.every((table) => {
    const held = db
      .prepare(
        `SELECT sum = (SELECT coalesce(sum(${sumOf(db, table, '')}), 0) FROM ${table} NOT INDEXED) AS held
         FROM sums WHERE name = ?`,
      )
      .get(table)?.['held'];
    return held === 1 && db.prepare(`PRAGMA integrity_check(${table})`).get()?.['integrity_check'] === 'ok';
  });
}

function sumOf(db: DatabaseSync, table: string, of: 'OLD.' | 'NEW.' | ''): string {
  const columns = db.prepare(`PRAGMA table_info(${table})`).all();
  return `nexus_sum(${columns.map(({ name }) => `${of}"${String(name)}"`).join(', ')})`;
}
