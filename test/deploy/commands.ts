import { mkdir, symlink } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { text } from 'node:stream/consumers';

/** A command line: its words up to the first flag, and its flags, each with its values. */
export interface Command {
  words: string;
  flag: (name: string) => string;
  flags: (name: string) => string[];
}

export interface StandIns {
  /** In which `az` and `docker` are the stand-ins. */
  env: Record<string, string>;
  /** The command lines so far. */
  calls: string[];
  close: () => Promise<void>;
}

/** Puts stand-ins for the platform's command lines first on a PATH. What `run` throws is their error. */
export async function openCommands(
  directory: string,
  run: (command: Command) => Promise<string> | string,
): Promise<StandIns> {
  const bin = path.join(directory, 'bin');
  await mkdir(bin);
  for (const name of ['az', 'docker'])
    await symlink(path.join(import.meta.dirname, 'standin'), path.join(bin, name));
  const calls: string[] = [];
  const server = createServer((request, response) => {
    text(request)
      .then(async (body) => {
        const argv = body.split('\0').slice(0, -1);
        calls.push(argv.join(' '));
        response.end(await run(commandOf(argv)));
      })
      .catch((error: unknown) => response.writeHead(500).end(`ERROR: ${String(error)}`));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('no port');
  return {
    calls,
    env: {
      PATH: `${bin}:${path.dirname(process.execPath)}:${process.env['PATH'] ?? ''}`,
      STANDIN: `http://127.0.0.1:${address.port}`,
      DEPLOY_SCHEME: 'http',
      CHECK_PAUSE: '0.2',
      RETRY_PAUSE: '0',
      SETTLE_SECONDS: '0',
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function commandOf(argv: string[]): Command {
  const first = argv.findIndex((word) => word.startsWith('--'));
  const words = argv.slice(0, first === -1 ? argv.length : first);
  const given = new Map<string, string[]>();
  let last: string[] = [];
  for (const word of argv.slice(words.length)) {
    if (!word.startsWith('--')) last.push(word);
    else given.set(word.slice(2), (last = []));
  }
  const flags = (name: string) => given.get(name) ?? [];
  return { words: words.join(' '), flags, flag: (name) => flags(name)[0] ?? '' };
}
