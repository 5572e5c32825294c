import { once } from 'node:events';
import { basename } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { crc32 } from 'node:zlib';
import { diskError } from '../diskerrors.ts';
import { describe, failedWith, NexusError } from '../errors.ts';
import type { Database } from './local-database.ts';
import { rowFrom } from './local-rows.ts';
import { entryOf, entrySum, rowSum } from './local-sums.ts';
import type { Damage, Store } from './store.ts';

const pageSize = 200;
/** Of one file; more would say no more. */
const mostFindings = 20;

/**
 * All that is damaged in a local store: what breaks SQLite's own rules, rows and lengths that do not fit their sums or
 * that the index does not lead to, blobs whose bytes do not. Gives those of an older release the sums that they lack.
 */
export async function* localDamage(
  database: Database,
  file: string,
  open: Store['open'],
  signal?: AbortSignal,
): AsyncIterable<Damage> {
  const item = basename(file);
  const allSeen = await database.beginLook();
  const seen = [
    yield* guarded(item, structure(file, item, signal)),
    yield* guarded(item, rows(database, signal)),
    yield* guarded(item, blobs(database, open, signal)),
  ];
  if (seen.every(Boolean)) await allSeen();
}

/** Names what is damaged, and says whether nothing kept it from seeing everything. */
type Look = AsyncGenerator<Damage, boolean, undefined>;

/** What cannot be read at all is damage of the file, and not the end of the looking. */
async function* guarded(item: string, look: Look): Look {
  try {
    return yield* look;
  } catch (error) {
    const known = diskError(error, item);
    if (!failedWith(known, 'corrupt')) throw known;
    yield { item, reason: describe(known) };
    return false;
  }
}

/** In a thread of its own: it reads the whole file at one go. */
const looking = `
  const { DatabaseSync } = require('node:sqlite');
  const { parentPort, workerData } = require('node:worker_threads');
  const db = new DatabaseSync(workerData.file, { readOnly: true, timeout: 10_000 });
  let said;
  try {
    said = db.prepare('PRAGMA integrity_check(' + workerData.most + ')').all();
  } catch (error) {
    if (error.errcode !== 11 && error.errcode !== 26) throw error;
    said = [{ integrity_check: error.message }];
  }
  db.close();
  parentPort.postMessage(said.map((row) => String(row.integrity_check)));`;

async function* structure(file: string, item: string, signal: AbortSignal | undefined): Look {
  signal?.throwIfAborted();
  const worker = new Worker(looking, { eval: true, workerData: { file, most: mostFindings } });
  let said: unknown;
  try {
    [said] = await once(worker, 'message', signal === undefined ? {} : { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    // Nothing stops SQLite in the middle: who looks next would look beside it.
    await worker.terminate();
  }
  if (!Array.isArray(said)) return false;
  for (const line of said) if (line !== 'ok') yield { item, reason: `Damaged: ${String(line).trim()}.` };
  return said.every((line) => line === 'ok');
}

async function* rows(database: Database, signal: AbortSignal | undefined): Look {
  const { sqlite } = database;
  const page = sqlite.prepare(
    'SELECT rowid AS place, tbl, partition, id, json, sum FROM rows NOT INDEXED WHERE rowid > ? ORDER BY rowid LIMIT ?',
  );
  const lookUp = sqlite.prepare('SELECT rowid AS place FROM rows WHERE tbl = ? AND partition = ? AND id = ?');
  const still = sqlite.prepare('SELECT 1 FROM rows NOT INDEXED WHERE rowid = ?');
  const fill = sqlite.prepare(
    'UPDATE rows SET sum = ? WHERE rowid = ? AND sum IS NULL AND tbl = ? AND partition = ? AND id = ? AND json = ?',
  );
  for (const statement of [page, lookUp]) statement.setReadBigInts(true);
  for (let past = -1n; ; ) {
    signal?.throwIfAborted();
    const found = await database.read(() => page.all(past, pageSize));
    const bare: [sum: number, place: bigint, table: string, agent: string, id: string, json: string][] = [];
    for (const { place, tbl, partition, id, json, sum } of found) {
      if (typeof place !== 'bigint') continue;
      const [table = '', agent = '', name = ''] = [tbl, partition, id].map(String);
      const item = `${table} ${agent}/${name}`;
      const key = { table, partition: agent, id: name };
      const row = rowFrom(table, agent, id, json, database.summed ? Number(sum) : sum);
      if (row instanceof NexusError) {
        yield { item, reason: row.message, row: key };
        continue;
      }
      if (sum === null && typeof json === 'string')
        bare.push([rowSum(table, agent, name, json), place, table, agent, name, json]);
      const lost = await database.read(
        () => lookUp.get(table, agent, name)?.['place'] !== place && still.get(place) !== undefined,
      );
      if (lost) {
        const reason = `The row ${agent}/${name} of ${table} is not found by its key.`;
        yield { item, reason, row: key };
      }
    }
    if (bare.length > 0)
      await database.commit(() => {
        for (const values of bare) fill.run(...values);
      });
    const last = found.at(-1)?.['place'];
    if (found.length < pageSize) return true;
    if (typeof last !== 'bigint' || last <= past) return false;
    past = last;
    await setImmediate();
  }
}

async function* blobs(database: Database, open: Store['open'], signal: AbortSignal | undefined): Look {
  const { sqlite } = database;
  const page = sqlite.prepare(
    'SELECT name, length, crc, sum FROM blobs WHERE name > ? ORDER BY name LIMIT ?',
  );
  page.setReadBigInts(true);
  const fill = sqlite.prepare(
    'UPDATE blobs SET crc = ?, sum = ? WHERE name = ? AND length = ? AND crc IS NULL',
  );
  for (let past = ''; ; ) {
    const found = await database.read(() => page.all(past, pageSize));
    let last: string | undefined;
    for (const row of found) {
      const name = String(row['name']);
      try {
        const { length, crc } = entryOf(name, row, database.summed);
        last = name;
        let sum = 0;
        for await (const piece of open(name, 0, crc === null ? length : undefined)) {
          signal?.throwIfAborted();
          sum = crc32(piece, sum);
        }
        if (crc === null)
          await database.commit(() => {
            fill.run(sum, entrySum(name, { length, crc: sum }), name, length);
          });
      } catch (error) {
        // Removed meanwhile.
        if (failedWith(error, 'not_found', 'range')) continue;
        if (!failedWith(error, 'corrupt', 'invalid')) throw error;
        yield { item: name, reason: describe(error) };
      }
    }
    if (found.length < pageSize) return true;
    if (last === undefined) return false;
    past = last;
    await setImmediate();
  }
}
