import type { Context } from '../context.ts';
import { describe, exit, failedWith, NexusError } from '../errors.ts';
import { withField } from '../exactjson.ts';
import { formatAge, formatBytes, formatCount, formatItems } from '../format.ts';
import { codeIn } from '../logline.ts';
import { type BrokenItem, type ItemFilter, type ListedItem, type Mailbox, positionOf } from '../mailbox.ts';
import { openMailbox } from '../open.ts';
import type { ItemCost } from '../usagesessions.ts';
import { costText } from './usagetable.ts';

/** Which items, by what the command line says. */
export interface Chosen {
  /** Its id in Nexus. */
  agent: string | undefined;
  source: string | undefined;
  /** Received at or after this time, ms since 1970. */
  since: number | undefined;
}

export interface ListOptions extends Chosen {
  state: 'pending' | 'history' | undefined;
  /** The newest so many. */
  limit: number | undefined;
}

/** Pending and history, the newest last. 3 when some of it is damaged, which is named and left out. */
export async function list(context: Context, { limit, state, ...chosen }: ListOptions): Promise<number> {
  const { output, now } = context;
  const damaged = new Map<string, BrokenItem>();
  const filter: ItemFilter = {
    ...filterOf(chosen),
    broken: (item) => void damaged.set(item.id, item),
    ...(state === undefined ? {} : { state }),
  };
  const { items, left } = await withMailbox(context, (mailbox) => newest(context, mailbox, filter, limit));
  const ok = damaged.size === 0;
  const status = ok ? exit.done : exit.someFailed;
  for (const { id, reason } of damaged.values()) output.error(`${id}: ${reason}`, { item: id });
  if (output.json) {
    const more = ok ? {} : { damaged: [...damaged.values()] };
    output.result({ command: 'webhooks list', ok, items, left, ...more, schemaVersion: 1 });
    return status;
  }
  if (items.length === 0) {
    if (ok) output.info(state === 'pending' ? 'Nothing is pending.' : 'There are no webhooks.');
    return status;
  }
  table(context, items, now());
  const pending = items.filter((item) => item.state === 'pending').length;
  const bytes = items.reduce((sum, item) => sum + item.bytes, 0);
  const more = left === 0 ? '' : `, and ${formatItems(left, 'older one')} not shown`;
  output.info(`${formatItems(items.length, 'item')}, ${pending} pending, ${formatBytes(bytes)}${more}.`);
  return status;
}

export function table({ output }: Context, items: readonly ListedItem[], now: Date): void {
  output.table(
    [
      { title: 'ID' },
      { title: 'SOURCE' },
      { title: 'RECEIVED' },
      { title: 'STATE' },
      { title: 'BYTES', align: 'right' },
      { title: 'DELIVERY', align: 'left' },
    ],
    items.map((item) => [
      item.id,
      item.source,
      formatAge(Date.parse(item.receivedAt), now),
      item.state,
      formatBytes(item.bytes),
      item.delivery ?? '',
    ]),
  );
}

/** The last `limit` in the order of arrival over all agents, and how many are before them. */
async function newest(
  { signal }: Context,
  mailbox: Mailbox,
  filter: ItemFilter,
  limit = Number.POSITIVE_INFINITY,
): Promise<{ items: ListedItem[]; left: number }> {
  let items: ListedItem[] = [];
  let found = 0;
  const last = () => items.sort(byArrival).slice(-limit);
  for await (const item of mailbox.list(filter)) {
    signal.throwIfAborted();
    found += 1;
    // Not more of them in memory than twice what is shown.
    if (items.push(item) > 2 * limit + 1000) items = last();
  }
  items = last();
  return { items, left: found - items.length };
}

function byArrival(one: ListedItem, other: ListedItem): number {
  if (one.receivedAt !== other.receivedAt) return one.receivedAt < other.receivedAt ? -1 : 1;
  return one.id < other.id ? -1 : 1;
}

const factNames = [
  'id',
  'agent',
  'source',
  'state',
  'receivedAt',
  'contentType',
  'encoding',
  'bytes',
  'delivery',
  'replayOf',
  'reconciled',
  'acknowledgedAt',
  'host',
] as const;

/** One item: what is known of it, then its payload. With `body` the bytes as they were received, and nothing else. */
export async function show(context: Context, { id, body }: { id: string; body: boolean }): Promise<void> {
  const { output } = context;
  if (body && output.json)
    throw new NexusError('usage', 'The bytes and a JSON object cannot both go to stdout.', {
      hint: 'Leave --body or --json out.',
    });
  if (positionOf(id) === undefined) throw absent(id);
  await withMailbox(context, async (mailbox) => {
    if (body) {
      await writeBody(context, (await mailbox.body(id)).body);
      return;
    }
    const item = await mailbox.show(id);
    if (item === undefined) throw absent(id);
    const handled = item.state === 'delivered' ? await costOf(context, id) : undefined;
    if (output.json) {
      const { payloadText, ...facts } = item;
      const handling = handled === undefined ? {} : { handling: handled };
      const shown = withField({ ...facts, ...handling }, 'payload', payloadText);
      output.resultJson(withField({ command: 'webhooks show', ok: true, schemaVersion: 1 }, 'item', shown));
      return;
    }
    const { headers } = item;
    output.table(
      [{ title: 'FIELD' }, { title: 'VALUE', align: 'left' }],
      [
        ...factNames.flatMap((name) => (item[name] === undefined ? [] : [[name, String(item[name])]])),
        ...(handled === undefined ? [] : handlingRows(handled)),
        ...Object.entries(headers).map(([name, value]) => [`header ${name}`, value]),
      ],
    );
    output.result('');
    output.result(harmless(readable(item.payloadText)));
  });
}

/** What handling an item has cost. That it cannot be told is a warning: the item is shown all the same. */
async function costOf(context: Context, id: string): Promise<ItemCost | undefined> {
  const { catchUp, withReader } = await import('./usage.ts');
  try {
    return await withReader(context, async (reader) => {
      await catchUp(context, reader);
      return await reader.costOf(id);
    });
  } catch (error) {
    // A key that may pull need not be one that may read.
    if (!(error instanceof NexusError)) throw error;
    if (!failedWith(error, 'forbidden', 'not_found'))
      context.output.warn(`What it cost cannot be told: ${describe(error)}`, {
        code: codeIn(error),
      });
    return undefined;
  }
}

function handlingRows({ sessions, sums, items }: ItemCost): [string, string][] {
  const shared = items > 1 ? `, with ${formatItems(items - 1, 'other item')}` : '';
  return [
    ['session', sessions.join(', ')],
    ['tokens', `${formatCount(sums.total)} in ${formatItems(sums.calls, 'call')}`],
    ['cost', `${costText(sums, 4)}${shared}`],
  ];
}

/** Text as text, anything else as the JSON that it is. */
function readable(payloadText: string): string {
  return payloadText.startsWith('"') ? String(JSON.parse(payloadText)) : payloadText;
}

/** As received where it goes to a file or another program; at a terminal only text, and none that controls it. */
async function writeBody({ output }: Context, body: Buffer): Promise<void> {
  if (!output.terminal) {
    await output.write(body);
    return;
  }
  const text = body.toString('utf8');
  if (!Buffer.from(text, 'utf8').equals(body))
    throw new NexusError('usage', `These ${formatBytes(body.length)} are no text for a terminal.`, {
      hint: 'Send them to a file or another program: `nexus webhooks show ID --body > FILE`.',
    });
  output.result(harmless(text));
}

/** Text of a sender's: newlines stay, everything else that controls a terminal is written out, colours too. */
function harmless(text: string): string {
  return text.replaceAll('\r\n', '\n').replaceAll('\u001b', '\\u{1b}');
}

/** Binds a mailbox to a host, whoever had it. */
export async function claim(
  context: Context,
  { agent, host }: { agent: string; host: string | undefined },
): Promise<void> {
  const { config, output } = context;
  const now = host ?? config.host;
  const before = await withMailbox(context, (mailbox) => mailbox.claim(agent, now));
  if (output.json) {
    const had = before === undefined ? {} : { before };
    output.result({ command: 'webhooks claim', ok: true, agent, host: now, ...had, schemaVersion: 1 });
    return;
  }
  const had = before === undefined ? ' No host had it.' : before === now ? ' It did before.' : '';
  const from = before === undefined || before === now ? '' : `; ${before} had it`;
  output.info(`The mailbox of ${agent} belongs to the host ${now}${from}.${had}`);
}

/** Removes what has been in history for 30 days. An endpoint does so by itself. */
export async function prune({ config, output, signal }: Context): Promise<void> {
  const { endpoint } = config;
  if (endpoint !== undefined) {
    const nothing = { items: 0, deliveries: 0, blobs: 0 };
    if (output.json)
      output.result({ command: 'webhooks prune', ok: true, ...nothing, endpoint, schemaVersion: 1 });
    else output.info(`There is nothing to do here: ${endpoint} prunes its history itself, every hour.`);
    return;
  }
  const [{ openStore }, { openWebhooks }] = await Promise.all([
    import('../open.ts'),
    import('../webhooks.ts'),
  ]);
  const webhooks = openWebhooks(await openStore(config));
  try {
    const pruned = await webhooks.prune({ signal });
    if (output.json) output.result({ command: 'webhooks prune', ok: true, ...pruned, schemaVersion: 1 });
    else
      output.info(
        `Removed: ${formatItems(pruned.items, 'item')} of history, ${formatItems(pruned.deliveries, 'delivery id')}, ${formatItems(pruned.blobs, 'body', 'bodies')}.`,
      );
  } finally {
    await webhooks.close();
  }
}

export function filterOf({ agent, source, since }: Chosen): ItemFilter {
  return {
    ...(agent === undefined ? {} : { agent }),
    ...(source === undefined ? {} : { source }),
    ...(since === undefined ? {} : { since: new Date(since).toISOString() }),
  };
}

export async function withMailbox<T>(
  { config, signal, version }: Context,
  work: (mailbox: Mailbox) => Promise<T>,
): Promise<T> {
  const mailbox = await openMailbox(config, signal, version);
  try {
    return await work(mailbox);
  } finally {
    await mailbox.close();
  }
}

export function absent(id: string): NexusError {
  return new NexusError('not_found', `There is no item ${JSON.stringify(id)}, pending or in history.`, {
    hint: 'See `nexus webhooks list`.',
  });
}
