import { checkAgentId } from './agents.ts';
import { failedWith, NexusError } from './errors.ts';
import type { ItemFilter, ListedItem } from './mailbox.ts';
import type { Row, Store } from './stores/store.ts';
import { listedItem, rowTime } from './webhookrows.ts';

/** What is pending and what is in history, as one listing. */
export async function* listItems(
  store: Store,
  agentsKnown: () => Promise<string[]>,
  { agent, source, since, state, after, broken }: ItemFilter,
): AsyncIterable<ListedItem> {
  const earliest = since === undefined ? '' : rowTime(timeOf(since));
  const agents = agent === undefined ? await agentsKnown() : [checkAgentId(agent)];
  for (const one of agents) {
    if (after !== undefined && one < after.agent) continue;
    const past = after?.agent === one ? `${after.row}\u0000` : '';
    const from = past > earliest ? past : earliest;
    const tables = [
      ...(state === 'history' ? [] : ['WebhookItems']),
      ...(state === 'pending' ? [] : ['History']),
    ];
    const rotted =
      broken &&
      ((id: string, { message }: NexusError): void => broken({ id: `${one}.${id}`, reason: message }));
    const streams = tables.map((table) => store.rows(table, one, { from }, rotted));
    for await (const { row, stream } of merged(streams)) {
      if (source !== undefined && row['Source'] !== source) continue;
      try {
        yield listedItem(row, tables[stream] === 'WebhookItems');
      } catch (error) {
        if (rotted === undefined || !failedWith(error, 'corrupt')) throw error;
        rotted(row.id, error);
      }
    }
  }
}

function timeOf(since: string): number {
  const time = Date.parse(since);
  if (Number.isNaN(time))
    throw new NexusError('invalid', `${JSON.stringify(since.slice(0, 80))} is no time.`);
  return time;
}

/** Rows of several streams by id, each once: of those with one id, the first stream's. */
async function* merged(streams: AsyncIterable<Row>[]): AsyncIterable<{ row: Row; stream: number }> {
  const iterators = streams.map((stream) => stream[Symbol.asyncIterator]());
  try {
    const heads: (Row | undefined)[] = [];
    const advance = async (at: number): Promise<void> => {
      const next = await iterators[at]?.next();
      heads[at] = next?.done === false ? next.value : undefined;
    };
    for (const at of iterators.keys()) await advance(at);
    for (;;) {
      let least: { row: Row; stream: number } | undefined;
      for (const [stream, row] of heads.entries())
        if (row !== undefined && (least === undefined || row.id < least.row.id)) least = { row, stream };
      if (least === undefined) return;
      yield least;
      const { id } = least.row;
      for (const at of iterators.keys()) if (heads[at]?.id === id) await advance(at);
    }
  } finally {
    for (const iterator of iterators) await iterator.return?.();
  }
}
