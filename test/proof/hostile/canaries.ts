import { createHash } from 'node:crypto';
import { lstat, mkdir, readdir, readFile, readlink, writeFile } from 'node:fs/promises';
import path from 'node:path';

/** Files that nothing may read, change or add to, wherever a name with `..` in it could lead. */
export interface Canaries {
  /** What no answer, no output and no stored byte may hold. */
  secret: string;
  /** A file with the secret in it, outside every root. */
  file: string;
  /** Sentences about what is otherwise than it was; none where all is. */
  touched(): Promise<string[]>;
}

/**
 * Plants canaries in and beside a home directory and remembers all that lies in `root`. What is below one of `own` is
 * Nexus's or the agent's, and not looked at.
 */
export async function plantCanaries(
  root: string,
  home: string,
  own: readonly string[],
  token: string,
): Promise<Canaries> {
  const secret = `CANARY-FILE-${token}`;
  const places = [
    root,
    path.join(root, 'outside'),
    home,
    path.join(home, 'canary.d'),
    path.join(home, '.ssh'),
  ];
  for (const place of places) {
    await mkdir(place, { recursive: true });
    for (const name of ['canary', 'canary.jsonl', 'id_rsa']) await writeFile(path.join(place, name), secret);
  }
  const before = await seen(root, own);
  return {
    secret,
    file: path.join(root, 'outside', 'canary.jsonl'),
    async touched() {
      const after = await seen(root, own);
      const names = new Set([...before.keys(), ...after.keys()]);
      return [...names].flatMap((name) => {
        const [was, is] = [before.get(name), after.get(name)];
        if (was === is) return [];
        const shown = JSON.stringify(path.relative(root, name));
        return [
          was === undefined ? `${shown} is new` : is === undefined ? `${shown} is gone` : `${shown} changed`,
        ];
      });
    },
  };
}

/** Every path below, and what is there. */
async function seen(root: string, own: readonly string[]): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const look = async (directory: string): Promise<void> => {
    for (const name of await readdir(directory)) {
      const place = path.join(directory, name);
      if (own.includes(place)) continue;
      const facts = await lstat(place);
      const mode = (facts.mode & 0o7777).toString(8);
      if (facts.isDirectory()) {
        found.set(place, `directory ${mode}`);
        await look(place);
      } else if (facts.isSymbolicLink()) found.set(place, `link ${await readlink(place)}`);
      else if (facts.isFile())
        found.set(
          place,
          `${mode} ${createHash('sha256')
            .update(await readFile(place))
            .digest('hex')}`,
        );
      else found.set(place, `other ${mode}`);
    }
  };
  await look(root);
  return found;
}

/** Files below a directory whose bytes hold a text. */
export async function filesWith(directory: string, text: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    if ((await readFile(file)).includes(text)) found.push(file);
  }
  return found;
}
