import type { DatabaseSync } from 'node:sqlite';
import { crc32 } from 'node:zlib';

/**
 * What answers are summed up from, and named by. `calls` and `copies`, from which it is made, are only asked for what
 * is counted next.
 */
const tables = ['agents', 'models', 'sessions', 'transcripts', 'rollup'] as const;

// Numbers are summed up by SQLite itself, modulo a prime: a call of a function takes longer than the row. Any one bit
// of any one column changes a row's sum.
const prime = 2_147_483_647;
const factor = 1_000_003;

/** Lets a connection write to an index and look through it. */
export function allowSums(db: DatabaseSync): void {
  db.function('nexus_sum', { deterministic: true, varargs: true }, (...values) =>
    crc32(values.map(textOf).join('\n')),
  );
}

function textOf(value: unknown): string {
  return value instanceof Uint8Array
    ? Buffer.from(value).toString('hex')
    : `${typeof value} ${String(value)}`;
}

/** Keeps of each table the sum of its rows' sums, in the transactions that change them. Once, after the tables are made. */
export function keepSums(db: DatabaseSync): void {
  db.exec('CREATE TABLE sums (name TEXT PRIMARY KEY, sum INTEGER NOT NULL) STRICT, WITHOUT ROWID');
  for (const table of tables) {
    const columns = columnsOf(db, table);
    const [before, after] = [sumOf(columns, 'OLD.'), sumOf(columns, 'NEW.')];
    const same = ['1', ...columns.texts.map((name) => `NEW.${name} IS OLD.${name}`)].join(' AND ');
    const change = `${after.numbers} - ${before.numbers} + CASE WHEN ${same} THEN 0 ELSE ${after.texts} - ${before.texts} END`;
    const add = (more: string) => `BEGIN UPDATE sums SET sum = sum ${more} WHERE name = '${table}'; END`;
    db.exec(`
      INSERT INTO sums VALUES ('${table}', 0);
      CREATE TRIGGER ${table}_made AFTER INSERT ON ${table} ${add(`+ ${after.numbers} + ${after.texts}`)};
      CREATE TRIGGER ${table}_changed AFTER UPDATE ON ${table} ${add(`+ ${change}`)};
      CREATE TRIGGER ${table}_gone AFTER DELETE ON ${table} ${add(`- ${before.numbers} - ${before.texts}`)};`);
  }
}

/** False where an answer could be a wrong one: rows, or what leads to them, are not what was written. Reads those tables. */
export function sumsHold(db: DatabaseSync): boolean {
  return tables.every((table) => {
    const { numbers, texts } = sumOf(columnsOf(db, table), '');
    const held = db
      .prepare(
        `SELECT sum = (SELECT coalesce(sum(${numbers} + ${texts}), 0) FROM ${table} NOT INDEXED) AS held
         FROM sums WHERE name = ?`,
      )
      .get(table)?.['held'];
    return held === 1 && db.prepare(`PRAGMA integrity_check(${table})`).get()?.['integrity_check'] === 'ok';
  });
}

interface Columns {
  numbers: string[];
  texts: string[];
}

function columnsOf(db: DatabaseSync, table: string): Columns {
  const columns = db.prepare(`PRAGMA table_info(${table})`).all();
  const named = (wanted: boolean): string[] =>
    columns.filter(({ type }) => (type === 'INTEGER') === wanted).map(({ name }) => `"${String(name)}"`);
  return { numbers: named(true), texts: named(false) };
}

/** As SQL, of the row that `of` names. */
function sumOf({ numbers, texts }: Columns, of: 'OLD.' | 'NEW.' | ''): { numbers: string; texts: string } {
  const terms = numbers.map((name, place) => `ifnull(${of}${name} % ${prime}, -1) * ${factor + place * 2}`);
  return {
    numbers: `((${['0', ...terms].join(' + ')}) % ${prime})`,
    texts: texts.length === 0 ? '0' : `nexus_sum(${texts.map((name) => of + name).join(', ')})`,
  };
}
