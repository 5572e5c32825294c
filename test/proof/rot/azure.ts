import { type Account, openAccount } from '../../../src/stores/azure-account.ts';
import { openAzureStore } from '../../../src/stores/azure.ts';
import type { Store } from '../../../src/stores/store.ts';
import { openWebhooks } from '../../../src/webhooks.ts';
import { startAzurite } from '../../stores/azurite.ts';
import { bitIn, pick } from './kinds.ts';
import { grow, type Made } from './made.ts';
import { judged, type Observed, observe, verify } from './observe.ts';

/** Tells of one bit, with how to see it again and what did not hold. */
export type Note = (what: string, kind: string, again: string, wrong: string | undefined) => void;

interface AzureKind {
  name: string;
  /** Changes one bit; answers how to do it again, and to undo it. */
  rot: (random: () => number) => Promise<{ again: string; restore: () => Promise<void> }>;
}

/**
 * Bits that change behind the back of the service, which would find it by sums of its own: through the SDK, as somebody
 * else would. Each of at least `least` rounds takes one of each kind, and puts it back.
 */
export async function azureRot(
  made: Made,
  random: () => number,
  { least, deadline }: { least: number; deadline: number },
  note: Note,
): Promise<void> {
  const azurite = await startAzurite();
  try {
    const options = { connectionString: azurite.connectionString };
    const open = () => openAzureStore(options);
    await fill(made, open);
    const account = await openAccount(options);
    const kinds = await kindsIn(account, open);
    const before = await observe(open);
    for (let round = 0; round < least || Date.now() < deadline; round++)
      for (const { name, rot } of kinds) {
        if (round >= least && Date.now() >= deadline) break;
        const { again, restore } = await rot(random);
        const now = await observe(open);
        const verified = await verify(made, open);
        note(name, name, again, judged(before, asRead(now, verified), verified, true));
        await restore();
      }
  } finally {
    await azurite.stop();
  }
}

/** Whoever reads a transcript relies on the service: rot is found in it by who verifies it. */
function asRead(now: Observed, verified: Observed): Observed {
  const found = (name: string) => verified.named.some((one) => one.includes(name.split('/')[1] ?? name));
  const bytes = [...now.bytes].filter(([name]) => !(name.includes('/') && found(name)));
  return { ...now, bytes: new Map(bytes) };
}

async function fill(made: Made, open: () => Promise<Store>): Promise<void> {
  await verify(made, open);
  for (const id of made.grown) await grow(made, id, 10);
  await verify(made, open);
  const store = await open();
  const webhooks = openWebhooks(store);
  for (let n = 0; n < 9; n++) {
    const text = JSON.stringify({ n, text: `the event number ${n} `.repeat(n % 3 === 0 ? 2000 : 4) });
    const body = Buffer.from(n % 3 === 1 ? `\u00ff${text}` : text, n % 3 === 1 ? 'latin1' : 'utf8');
    const contentType = n % 3 === 1 ? 'application/octet-stream' : 'application/json';
    await webhooks.receive({ agent: 'main', source: 'github', contentType, headers: {}, body });
  }
  await webhooks.close();
}

async function kindsIn(account: Account, open: () => Promise<Store>): Promise<AzureKind[]> {
  const store = await open();
  const namesOf = async (prefix: string): Promise<string[]> => {
    const names: string[] = [];
    for await (const { name } of store.list(prefix)) names.push(name);
    return names;
  };
  const transcripts = await namesOf('sessions/inbox/');
  const payloads = await namesOf('payloads/');
  const rows: string[] = [];
  for await (const row of store.rows('WebhookItems', 'main')) if ('Payload' in row) rows.push(row.id);
  await store.close();
  return [
    blobKind('transcript on Azure', account, transcripts),
    blobKind('payload blob on Azure', account, payloads),
    rowKind(account, rows),
  ];
}

function blobKind(name: string, account: Account, names: readonly string[]): AzureKind {
  return {
    name,
    async rot(random) {
      const [container = '', ...rest] = pick(names, random).split('/');
      const blob = account.container(container).getBlobClient(rest.join('/'));
      const { metadata = {} } = await blob.getProperties();
      const bytes = await blob.downloadToBuffer();
      const put = async (body: Buffer): Promise<void> => {
        await blob.delete();
        if (container === 'sessions') {
          await blob.getAppendBlobClient().create({ metadata });
          await blob.getAppendBlobClient().appendBlock(body, body.length);
        } else await blob.getBlockBlobClient().upload(body, body.length, { metadata });
      };
      const bit = bitIn(bytes.length, random);
      await put(flipped(bytes, bit));
      return { again: `bit ${bit} of ${rest.join('/')}`, restore: () => put(bytes) };
    },
  };
}

/** The bit of a payload that is kept in its row; of text the lowest of a character, so that it stays text. */
function rowKind(account: Account, ids: readonly string[]): AzureKind {
  return {
    name: 'payload in a row on Azure',
    async rot(random) {
      const table = account.table('WebhookItems');
      const id = pick(ids, random);
      const { etag: _, ...entity } = await table.getEntity<{ Payload: string }>('main', id);
      const place = Math.floor(random() * entity.Payload.length);
      const changed = String.fromCharCode(entity.Payload.charCodeAt(place) ^ 1);
      const Payload = `${entity.Payload.slice(0, place)}${changed}${entity.Payload.slice(place + 1)}`;
      const put = async (properties: object): Promise<void> => {
        await table.upsertEntity({ partitionKey: 'main', rowKey: id, ...properties }, 'Replace');
      };
      await put({ ...entity, Payload });
      return { again: `character ${place} of ${id}`, restore: () => put(entity) };
    },
  };
}

function flipped(bytes: Buffer, bit: number): Buffer {
  const other = Buffer.from(bytes);
  const at = Math.floor(bit / 8);
  other[at] = (other[at] ?? 0) ^ (1 << (bit % 8));
  return other;
}
