import type { Seed } from './seed.ts';

export const seeds: Seed[] = [
  {
    name: 'a new blob has no lasting name',
    file: 'src/stores/local-files.ts',
    find: 'if (fresh) await syncDirectory(dirname(file));',
    replace: '',
    part: 'crashstates',
  },
  {
    name: 'the length of a blob is committed before its bytes are synced',
    file: 'src/stores/local-files.ts',
    find: 'await handle.datasync();',
    replace: '',
    part: 'crashstates',
  },
  {
    name: 'a commit of the store is answered before it is synced',
    file: 'src/stores/local-database.ts',
    find: "sqlite.exec('PRAGMA synchronous = FULL');",
    replace: "sqlite.exec('PRAGMA synchronous = NORMAL');",
    part: 'crashstates',
  },
  {
    name: 'an item gets its name in the inbox before its bytes are synced',
    file: 'src/jobs/inbox.ts',
    find: 'await file.sync();',
    replace: '',
    part: 'crashstates',
  },
  {
    name: 'an item is acknowledged before its name in the inbox lasts',
    file: 'src/jobs/pullagent.ts',
    find: 'await inbox.sync();',
    replace: '',
    part: 'crashstates',
  },
  {
    name: 'the directory of the ledger of deliveries has no lasting name',
    file: 'src/jobs/deliveriesfile.ts',
    find: 'syncAbove(directory);\n    try',
    replace: 'try',
    part: 'crashstates',
  },
  {
    name: 'the directory of data has no lasting name',
    file: 'src/stores/local.ts',
    find: 'if ((await statIfThere(databaseIn(root))) === undefined) syncAbove(root);',
    replace: '',
    part: 'crashstates',
  },
  {
    name: 'half a write is taken for a whole one',
    file: 'src/stores/local-files.ts',
    find: 'written += bytesWritten;',
    replace: 'written += Math.max(bytesWritten, body.length - written);',
    part: 'operations',
  },
  {
    name: 'a failed append leaves its length',
    file: 'src/stores/local-blobs.ts',
    find: 'await files.write(fileOf(name), length, body, () => refuseOtherCase(name));',
    replace:
      'await files.write(fileOf(name), length, body, () => refuseOtherCase(name)).catch(() => undefined);',
    part: 'operations',
  },
  {
    name: 'an item whose file could not be renamed is acknowledged',
    file: 'src/jobs/pullagent.ts',
    find: 'else itemFailed(pull, entry.id, error);\n      // With',
    replace: 'else placed.push(entry.id);\n      // With',
    part: 'operations',
  },
  {
    name: 'a file of OpenClaw that cannot be read is passed over',
    file: 'src/openclaw/plainfile.ts',
    find: 'throw readError(path, error);\n    }\n  }',
    replace: 'throw error;\n    }\n  }',
    part: 'operations',
  },
];
