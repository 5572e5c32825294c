import { spawnSync } from 'node:child_process';
import { open, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Table } from './part.ts';

const syncs = 200;

/** What the figures were measured with and against, and what the disk alone takes. */
export async function versionsOf(directory: string): Promise<Table> {
  const rclone = said('rclone', 'version');
  const ccusage = process.env['NEXUS_CCUSAGE'];
  const { median, least, most } = await syncOf(path.join(directory, 'sync'));
  const rows = [
    ['Node', process.version],
    ['SQLite', process.versions.sqlite ?? ''],
    ['Fastify', await versionOf('fastify')],
    ['Azurite', await versionOf('azurite')],
    ['rclone', rclone ?? 'not there'],
    ['ccusage', ccusage === undefined ? 'not there' : (said(ccusage, '--version') ?? 'not there')],
    ['cp', said('cp', '--version') ?? 'not there'],
    ['4 KiB written and synced', `${median} ms (${least}–${most} ms of ${syncs})`],
  ];
  return { title: 'Measured with', columns: ['what', 'which'], rows };
}

/** The first line of what it says of itself. */
function said(command: string, argument: string): string | undefined {
  const { status, stdout } = spawnSync(command, [argument], { encoding: 'utf8', timeout: 10_000 });
  return status === 0 ? stdout.split('\n')[0] : undefined;
}

async function versionOf(name: string): Promise<string> {
  const file = path.resolve(import.meta.dirname, '..', '..', 'node_modules', name, 'package.json');
  const { version }: { version: string } = JSON.parse(await readFile(file, 'utf8'));
  return version;
}

async function syncOf(file: string): Promise<{ median: string; least: string; most: string }> {
  const handle = await open(file, 'w');
  try {
    const times: number[] = [];
    const page = Buffer.alloc(4096, 'x');
    for (let nth = 0; nth < syncs; nth++) {
      const began = performance.now();
      await handle.write(page, 0, page.length, nth * page.length);
      await handle.datasync();
      times.push(performance.now() - began);
    }
    times.sort((one, other) => one - other);
    const at = (place: number): string => (times[place] ?? 0).toFixed(2);
    return { median: at(syncs / 2), least: at(0), most: at(syncs - 1) };
  } finally {
    await handle.close();
  }
}
