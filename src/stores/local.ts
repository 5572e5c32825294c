import type { Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { checkOwner, diskError, errnoOf, openingError } from '../diskerrors.ts';
import { NexusError } from '../errors.ts';
import { syncAbove, syncDirectory } from '../lastingnames.ts';
import { localBlobs } from './local-blobs.ts';
import { localDamage } from './local-damage.ts';
import { databaseIn, type Database, openDatabase } from './local-database.ts';
import { makeDirectory } from './local-files.ts';
import { localRows } from './local-rows.ts';
import type { Store } from './store.ts';

export interface LocalOptions {
  /** How long an operation waits for other processes before `busy` or `unavailable`, ms. Default 10,000. */
  waitMs?: number;
}

/**
 * The embedded store, in a directory that is made when it is absent:
 *
 *     store.sqlite                      rows, the lengths and sums of blobs, the store's id
 *     blobs/<container>/<rest of name>  blobs as plain files
 *     locks/NN.sqlite                   empty; what processes lock while they write to a blob
 *
 * Any number of processes of one user may have it open. `forbidden` when it belongs to another user, `config` when
 * it is no directory or was made by a newer version, `unavailable` and `corrupt` as everywhere.
 */
export async function openLocalStore(directory: string, options: LocalOptions = {}): Promise<Store> {
  const root = resolve(directory);
  const waitMs = options.waitMs ?? 10_000;
  await makeOwn(root);
  const file = databaseIn(root);
  const database = await openDatabase(file, waitMs);
  const { blobs, rows } = await prepared(database, file, () => ({
    blobs: localBlobs(database, join(root, 'blobs'), join(root, 'locks'), waitMs),
    rows: localRows(database),
  }));
  const running = new Set<Promise<unknown>>();
  let closing: Promise<void> | undefined;

  /** Lets `close` wait for what has begun. */
  async function during<T>(begin: () => Promise<T>): Promise<T> {
    if (closing !== undefined) throw new NexusError('unavailable', 'The store is closed.');
    const work = begin();
    running.add(work);
    try {
      return await work;
    } finally {
      running.delete(work);
    }
  }

  async function closeAll(): Promise<void> {
    await Promise.allSettled(running);
    blobs.close();
    await database.close();
  }

  return {
    id: () => during(async () => database.id()),
    create: (name, body) => during(() => blobs.create(name, body)),
    append: (name, offset, body) => during(() => blobs.append(name, offset, body)),
    open: blobs.open,
    stat: (name) => during(() => blobs.stat(name)),
    list: blobs.list,
    remove: (name) => during(() => blobs.remove(name)),
    insert: (table, row) => during(() => rows.insert(table, row)),
    insertAll: (given) => during(() => rows.insertAll(given)),
    put: (table, row) => during(() => rows.put(table, row)),
    rows: rows.rows,
    removeRows: (table, partition, ids) => during(() => rows.removeRows(table, partition, ids)),
    damage: (signal) => localDamage(database, file, blobs.open, signal),
    close: () => (closing ??= closeAll()),
  };
}

/** What is prepared on a database, which is closed where that cannot be. */
async function prepared<T>(database: Database, file: string, prepare: () => T): Promise<T> {
  try {
    return prepare();
  } catch (error) {
    await database.close();
    throw diskError(error, file);
  }
}

/** The directory and what is in it, made durable where it is new, and this user's. */
async function makeOwn(root: string): Promise<void> {
  try {
    const there = (await statIfThere(root)) ?? (await makePath(root));
    if (!there.isDirectory()) throw noDirectory(root);
    checkOwner(root, there.uid);
    await makeDirectory(join(root, 'blobs'));
    await makeDirectory(join(root, 'locks'));
    await syncDirectory(root);
    if ((await statIfThere(databaseIn(root))) === undefined) syncAbove(root);
  } catch (error) {
    throw openingError(error, root);
  }
}

async function makePath(directory: string): Promise<Stats> {
  const above = dirname(directory);
  if ((await statIfThere(above)) === undefined) await makePath(above);
  await makeDirectory(directory);
  return await stat(directory);
}

async function statIfThere(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    if (errnoOf(error) === 'ENOTDIR') throw noDirectory(dirname(path));
    throw error;
  }
}

function noDirectory(path: string): NexusError {
  return new NexusError('config', `${path} is not a directory.`, { hint: 'Set another data directory.' });
}
