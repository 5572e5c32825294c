import { mkdtemp, open, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { openLocalStore } from '../../src/stores/local.ts';
import type { Store } from '../../src/stores/store.ts';

export interface TestStore {
  store: Store;
  directory: string;
  /** Changes one bit of a blob behind the store's back. */
  spoil: (name: string) => Promise<void>;
  /** Changes the rows of a table whose id fits the pattern of SQL, so that they do not fit their sums. */
  rot: (table: string, id?: string) => void;
  /** Closes the store and removes its directory. */
  remove: () => Promise<void>;
}

/** A real embedded store in a temporary directory. */
export async function temporaryStore(): Promise<TestStore> {
  const directory = await mkdtemp(path.join(os.tmpdir(), 'nexus-port-'));
  const store = await openLocalStore(path.join(directory, 'store'));
  return {
    store,
    directory,
    async spoil(name) {
      const file = await open(path.join(directory, 'store', 'blobs', name), 'r+');
      const first = Buffer.alloc(1);
      await file.read(first, 0, 1, 0);
      await file.write(Buffer.of((first[0] ?? 0) ^ 1), 0, 1, 0);
      await file.close();
    },
    rot(table, id = '%') {
      const db = new DatabaseSync(path.join(directory, 'store', 'store.sqlite'));
      const { changes } = db
        .prepare("UPDATE rows SET json = json || ' ' WHERE tbl = ? AND id LIKE ?")
        .run(table, id);
      db.close();
      if (changes === 0) throw new Error(`${table} has no row like ${id}`);
    },
    async remove() {
      await store.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
