import { mkdir, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { newOpenClawMachine, type OpenClawMachine } from '../cli/openclaw.ts';
import { type PutioServer, startPutio, token } from './server.ts';

/** A machine whose endpoint runs, an account at put.io, and an agent who is told by nobody. */
export interface PutioMachine {
  machine: OpenClawMachine;
  putio: PutioServer;
  /** Of the endpoint. */
  base: string;
  register: (more?: string[]) => ReturnType<OpenClawMachine['nexus']>;
  /** The inbox files of put.io's, oldest first. */
  inbox: () => Promise<Record<string, unknown>[]>;
  config: () => Promise<Record<string, unknown>>;
}

export async function newPutioMachine(more: Record<string, string> = {}): Promise<PutioMachine> {
  const putio = await startPutio();
  const machine = await newOpenClawMachine(undefined, { NEXUS_PUTIO_TOKEN: token, ...more });
  const inbox = path.join(machine.openclaw.stateDir, 'workspace', 'inbox', 'webhooks');
  await mkdir(path.dirname(path.dirname(inbox)), { recursive: true });
  await machine.configure({ notify: { by: 'none' }, putio: { apiBase: putio.base } });
  const [, base = ''] = await machine.start(['serve', '--port', '0']).shows(/Listening on (\S+?),/);
  return {
    machine,
    putio,
    base,
    register: (more = []) =>
      machine.nexus(['putio', 'register', '--agent', 'main', '--endpoint-url', base, ...more]),
    async inbox() {
      const names = (await readdir(inbox).catch(() => [])).filter((name) => name.endsWith('.json')).sort();
      return await Promise.all(
        names.map(async (name) => {
          const content: unknown = JSON.parse(await readFile(path.join(inbox, name), 'utf8'));
          return Object.fromEntries(Object.entries(Object(content)));
        }),
      );
    },
    async config() {
      return Object.fromEntries(
        Object.entries(Object(JSON.parse(await readFile(machine.configFile, 'utf8')))),
      );
    },
  };
}
