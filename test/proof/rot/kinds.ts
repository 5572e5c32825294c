import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { flip } from './snapshot.ts';

/** One kind of stored thing, and a way to let one bit of it rot. */
export interface Kind {
  name: string;
  /** Every bit of it means something: rot in it is found. Else it is found where anything differs. */
  promised: boolean;
  /** Changes one bit; answers how to do it again. */
  rot: (random: () => number) => Promise<string>;
}

export const pick = <T>(of: readonly T[], random: () => number): T => {
  const one = of[Math.floor(random() * of.length)];
  if (one === undefined) throw new Error('There is nothing of that kind.');
  return one;
};

export const bitIn = (bytes: number, random: () => number): number => Math.floor(random() * bytes * 8);

/** Any bit of any of these files. */
export function fileKind(name: string, files: readonly string[], promised: boolean, from = 0): Kind {
  return {
    name,
    promised,
    async rot(random) {
      const file = pick(files, random);
      const { size } = await stat(file);
      const bit = from * 8 + bitIn(size - from, random);
      await flip(file, bit);
      return `bit ${bit} of ${path.basename(file)}`;
    },
  };
}

/** The kinds of a local store; nobody has it open. */
export async function storeKinds(storeDir: string, grown: readonly string[]): Promise<Kind[]> {
  const file = path.join(storeDir, 'store.sqlite');
  const inbox = path.join(storeDir, 'blobs', 'sessions', 'inbox', 'main');
  const payloads = path.join(storeDir, 'blobs', 'payloads', 'items', 'main');
  const transcripts = (await readdir(inbox)).map((name) => path.join(inbox, name));
  const isGrown = (one: string) => grown.some((id) => one.includes(id));
  const db = new DatabaseSync(file, { readOnly: true });
  const rows = db
    .prepare('SELECT tbl, json FROM rows')
    .all()
    .map((row) => [String(row['tbl']), String(row['json'])]);
  db.close();
  const tables = [...new Set(rows.map(([table]) => table ?? ''))]
    .filter((table) => table !== 'Agents')
    .sort();
  return [
    fileKind(
      'transcript, complete',
      transcripts.filter((one) => !isGrown(one)),
      true,
    ),
    fileKind('transcript, active, grown since its digest', transcripts.filter(isGrown), true),
    fileKind(
      'payload blob',
      (await readdir(payloads)).map((name) => path.join(payloads, name)),
      true,
    ),
    ...tables.map((table) =>
      textKind(
        // A mark that is none makes its host settle everything, and leave another.
        { name: `row of ${table}`, promised: table !== 'Marks' },
        file,
        rows.flatMap(([of, json = '']) => (of === table ? [json] : [])),
        'everywhere',
      ),
    ),
    ...pageKinds(file, (tree) => `page of ${tree}`),
  ];
}

const around = 12;

/** Where the bit of a text is changed: in every copy of it, also in those that nobody reads any more, or in one, or either. */
type Where = 'everywhere' | 'either';

/** A bit of a text that is in a file of SQLite's. */
export function textKind(
  { name, promised }: Pick<Kind, 'name' | 'promised'>,
  file: string,
  texts: readonly string[],
  where: Where,
): Kind {
  return {
    name,
    promised,
    async rot(random) {
      const bytes = await readFile(file);
      for (let tries = 0; tries < 1000; tries++) {
        const text = Buffer.from(pick(texts, random));
        const at = Math.floor(random() * Math.max(1, text.length - around));
        const piece = text.subarray(at, at + around);
        const found: number[] = [];
        for (let place = bytes.indexOf(piece); place >= 0; place = bytes.indexOf(piece, place + 1))
          found.push(place);
        // What many rows say is not of one.
        if (found.length === 0 || (where === 'everywhere' && found.length > 3)) continue;
        const bit = bitIn(piece.length, random);
        const places = where === 'everywhere' || random() < 0.5 ? found : [pick(found, random)];
        for (const place of places) await flip(file, place * 8 + bit);
        const bits = places.map((place) => place * 8 + bit).join(', ');
        return `bits ${bits} of ${path.basename(file)}, ${JSON.stringify(piece.toString())}`;
      }
      throw new Error(`Nothing of ${name} was found in the file.`);
    },
  };
}

/** Any bit of the pages of each tree of a file: cells, what leads to them, and room that nobody uses. */
export function pageKinds(file: string, nameOf: (tree: string) => string): Kind[] {
  const db = new DatabaseSync(file, { readOnly: true });
  const pages = db.prepare('SELECT name, pageno FROM dbstat').all();
  const pageSize = Number(db.prepare('PRAGMA page_size').get()?.['page_size']);
  db.close();
  const byTree = Map.groupBy(pages, ({ name }) => String(name));
  return [...byTree]
    .toSorted(([one], [other]) => (one < other ? -1 : 1))
    .map(([tree, of]) => ({
      name: nameOf(tree),
      promised: false,
      async rot(random) {
        const page = Number(pick(of, random)['pageno']);
        const bit = (page - 1) * pageSize * 8 + bitIn(pageSize, random);
        await flip(file, bit);
        return `bit ${bit} of ${path.basename(file)}`;
      },
    }));
}
