import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { ask, type Asked } from './asked.ts';
import { encoded } from './bases.ts';
import { lookers, runOver } from './commands.ts';
import { judge } from './judge.ts';
import { nastyBytes, nastyJson, nastyText, nested } from './nasty.ts';
import type { Notes } from './notes.ts';
import { idIn, jsonBody, type Stand, told } from './stand.ts';

/** Mail by hostile names and with hostile payloads into an inbox, and looked at: in its place, whole, and nowhere else. */
export async function deliverHostile(stand: Stand, notes: Notes): Promise<void> {
  const { world, door, keys } = stand;
  const key: [string, string] = ['x-functions-key', keys.alpha];
  const post = (source: string, type: string, body: Uint8Array, ...more: Asked['headers']): Asked => ({
    method: 'POST',
    url: `/api/webhook/alpha?source=${encoded(source)}`,
    headers: [key, ['content-type', type], ...more],
    body,
  });
  const sent = [
    ...nastyText.map((source) => post(source, 'application/json', Buffer.from('{}'))),
    ...['a'.repeat(100), 'é'.repeat(100), '😀'.repeat(50), '_'.repeat(100)].map((source) =>
      post(source, 'text/plain', Buffer.from('x')),
    ),
    ...nastyText.map((text) =>
      post('plain', 'text/plain', Buffer.from(text), [
        'user-agent',
        Buffer.from(text)
          .toString('latin1')
          .replace(/[^\x20-\x7e\x80-\xff]/g, ''),
      ]),
    ),
    ...nastyJson.map((text) => post('putio', 'application/json', Buffer.from(text))),
    ...nastyBytes.map((bytes) => post('plain', 'application/octet-stream', bytes)),
    ...nastyText.map((text) =>
      post(
        'put.io',
        'application/x-www-form-urlencoded',
        Buffer.from(`name=${encoded(text)}&${encoded(text)}=1&id=${encoded(text)}`),
      ),
    ),
    ...[400, 500, 501, 5000].map((depth) => post('plain', 'application/json', Buffer.from(nested(depth)))),
  ];
  const accepted = new Set<string>();
  const one = async (asked: Asked): Promise<void> => {
    const answer = await ask(door, asked);
    judge(stand, notes, asked, answer);
    notes.count('hostile webhooks');
    if (answer?.status === 202) accepted.add(idIn(answer));
  };
  for (let n = 0; n < sent.length; n += 8) await Promise.all(sent.slice(n, n + 8).map(one));
  const env = {
    NEXUS_ENDPOINT: stand.serving.url,
    NEXUS_API_KEY: keys.alpha,
    NEXUS_DATA_DIR: path.join(world.home, 'data', 'host'),
    NEXUS_LOG_FORMAT: 'text',
  };
  // Somebody may have claimed the mailbox meanwhile, as its key allows.
  await told(door, keys.alpha, {
    method: 'PUT',
    url: '/api/webhook/mailboxes/alpha',
    ...jsonBody({ host: 'proof' }),
  });
  await runOver(world, notes, ['pull-webhooks', '--agent', 'alpha'], env);
  const inbox = path.join(world.stateDir, 'workspace-alpha', 'inbox', 'webhooks');
  const names = (await readdir(inbox)).filter((name) => !name.startsWith('.'));
  for (const name of names) {
    const item = parsed(await readFile(path.join(inbox, name), 'utf8'));
    if (typeof item?.id !== 'string') notes.broken('A file in an inbox is no JSON.', JSON.stringify(name));
    else accepted.delete(item.id);
    if (!/^[A-Za-z0-9.-]{1,32}_alpha\.[0-9a-z]+\.json$/.test(name))
      notes.broken('A file in an inbox has a hostile name.', JSON.stringify(name));
    notes.count('hostile webhooks delivered');
  }
  if (accepted.size > 0)
    notes.broken('A webhook that was accepted is not in the inbox.', [...accepted].slice(0, 5).join(' '));
  const local = { NEXUS_LOG_FORMAT: 'text' };
  for (const args of lookers.filter((_, nth) => nth % 2 === 0)) await runOver(world, notes, args, local);
  for (const name of names.slice(0, 2)) {
    const id = name.replace(/^[^_]*_|\.json$/g, '');
    await runOver(world, notes, ['webhooks', 'show', id], local);
  }
}

function parsed(text: string): { id?: unknown } | undefined {
  try {
    const item: { id?: unknown } = JSON.parse(text);
    return item;
  } catch {
    // Then it is no JSON.
    return undefined;
  }
}
