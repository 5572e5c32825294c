import type { Seed } from './seed.ts';

const part = 'rot';

export const seeds: Seed[] = [
  {
    name: 'a row is served whatever its sum says',
    file: 'src/stores/local-rows.ts',
    find: 'if (sum !== null && Number(sum) !== rowSum(table, partition, id, json))',
    replace: 'if (sum === undefined)',
    part,
  },
  {
    name: 'the bytes of a blob are given out without their sum',
    file: 'src/stores/local-blobs.ts',
    find: 'if (position === end && sum !== null && sum !== crc) throw rotten(file);',
    replace: 'if (position > end) throw rotten(file);',
    part,
  },
  {
    name: 'a blob is absent where the search for it was misled',
    file: 'src/stores/local-blobs.ts',
    find: 'return await database.read(() => confirmAbsent(name));',
    replace: 'return entry ?? (name === "" ? confirmAbsent(name) : undefined);',
    part,
  },
  {
    name: 'what a killed process committed is dropped behind a bit that rotted',
    file: 'src/stores/local-database.ts',
    find: '  checkWal(file);\n  let sqlite',
    replace: '  if (waitMs < 0) checkWal(file);\n  let sqlite',
    part,
  },
  {
    name: 'the ledger of deliveries is not looked through before a delivery',
    file: 'src/jobs/deliveries.ts',
    find: '        checkWhole(db, file);\n',
    replace: '        if (wholeAt > now) checkWhole(db, file);\n',
    part,
  },
  {
    name: 'usage is answered from an index that rotted',
    file: 'src/usagefile.ts',
    find: 'if (!sumsHold(db)) throw',
    replace: 'if (!sumsHold(db) && soundAt > 0) throw',
    part,
  },
  {
    name: 'a payload in a row is delivered without its digest',
    file: 'src/webhookbodies.ts',
    find: "row['PayloadHash'] === undefined || row['PayloadHash'] === sha256(body)",
    replace: "row['PayloadHash'] === undefined || sha256(body) !== ''",
    part,
  },
  {
    name: 'what changed after it was shipped is taken for another history',
    file: 'src/jobs/agentrun.ts',
    find: 'if (run.options.verify && row !== undefined) await stillThere(run, place, row);',
    replace: "if (run.options.verify && row?.place === '') await stillThere(run, place, row);",
    part,
  },
];
