import { createHash, randomBytes } from 'node:crypto';
import { removeFound, rowOf, type Store } from './stores/store.ts';

/** Who is signed in to the dashboard. Kept in the store, so that every replica knows them and a restart forgets none. */
export interface SignIns {
  /** A token for the browser of who has shown the key with this hash. Durable when it resolves. */
  begin: (keyHash: string) => Promise<string>;
  /** The hash of the key that was shown for a token; `undefined` for one that is unknown, ended or too old. */
  keyOf: (token: string) => Promise<string | undefined>;
  /** From now on the token is unknown everywhere. */
  end: (token: string) => Promise<void>;
}

/** How long a sign-in lasts, ms. */
export const signInMs = 14 * 86_400_000;

const table = 'SignIns';
const partition = 'dashboard';

/**
 * A token is random and stands for nothing outside the store, which holds its SHA-256 only. It is not made of the key
 * or of the key's hash: a stolen one is no key, and who reads the configuration or the store cannot make one. Whether
 * the key is still there is asked of the configuration at each request. A row that rotted is as one that ended: who it
 * was signs in again, and the next who does removes it.
 */
export function openSignIns(store: Store, now: () => Date = () => new Date()): SignIns {
  return {
    async begin(keyHash) {
      const token = randomBytes(32).toString('base64url');
      const at = now();
      const until = new Date(at.getTime() + signInMs).toISOString();
      await store.insert(table, { partition, id: idOf(token), key: keyHash, at: at.toISOString(), until });
      const over: string[] = [];
      // One that rotted signs nobody in.
      for await (const row of store.rows(table, partition, {}, (id) => over.push(id)))
        if (String(row['until']) <= at.toISOString()) over.push(row.id);
      await removeFound(store, table, partition, over);
      return token;
    },

    async keyOf(token) {
      const row = await rowOf(store, table, partition, idOf(token), () => undefined);
      if (row === undefined || String(row['until']) <= now().toISOString()) return undefined;
      return String(row['key']);
    },

    end: (token) => store.removeRows(table, partition, [idOf(token)]),
  };
}

function idOf(token: string): string {
  return createHash('sha256').update(token, 'utf8').digest('hex');
}
