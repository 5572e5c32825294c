import { changedSince, type Named, overlapMs, pruneChanges, reliableMs } from './changes.ts';
import { failedWith } from './errors.ts';
import type { Card, Nexus } from './nexus.ts';
import type { Store } from './stores/store.ts';
import { factIn, type IndexFile, setFact } from './usagefile.ts';

/** The whole list is compared this often, ms. */
const listEveryMs = 86_400_000;
/** More than so many that the feed names of an agent, and this part of its transcripts, are compared as a list. */
const mostSingly = 50;
const listShare = 1 / 20;

export interface Looking {
  index: IndexFile;
  store: Store;
  nexus: Pick<Nexus, 'list'>;
  now: () => Date;
  /** Runs what writes to the index in a transaction. */
  commit: (work: () => void) => Promise<void>;
  /** Of more bytes than these there is much to read. */
  muchBytes: number;
}

/**
 * Finds what may have changed, by the feed or by the list, and notes it as pending; answers the cards that were read on
 * the way. `much` is called as soon as it is known on first use that there is much to read, and again after that.
 */
export function openLook({
  index,
  store,
  nexus,
  now,
  commit,
  muchBytes,
}: Looking): (much: () => void) => Promise<Map<string, Card>> {
  const { db } = index;
  const addPending = db.prepare(
    'INSERT INTO pending (agent, name, looks) VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET looks = looks + 1',
  );
  const selectKnown = db.prepare(
    'SELECT agent, name, length, complete, read_to, tail, key, trigger, host, unreadable FROM transcripts',
  );
  const countKnown = db.prepare('SELECT agent, count(*) AS count FROM transcripts GROUP BY agent');

  return look;

  async function look(much: () => void): Promise<Map<string, Card>> {
    const began = now().getTime();
    const [lookedAt, listedAt] = await index.read(() => [
      Number(factIn(db, 'looked_at') ?? Number.NaN),
      Number(factIn(db, 'listed_at') ?? Number.NaN),
    ]);
    const recent = began - lookedAt < reliableMs && lookedAt <= began + overlapMs;
    const due = !(recent && began - listedAt < listEveryMs && listedAt <= began + overlapMs);
    const feed = due ? undefined : await soundFeed(lookedAt - overlapMs, began);
    const whole = feed === undefined;
    const damaged: Named[] = [];
    const cards = whole
      ? await listed(damaged, Number.isNaN(listedAt) ? much : undefined)
      : new Map<string, Card>();
    const named = [
      ...(whole ? await index.read(() => differing(cards)) : await changed(feed, cards, damaged)),
      ...damaged,
    ];
    await commit(() => {
      for (const { agent, transcript } of named) addPending.run(agent, transcript);
      setFact(db, 'looked_at', String(began));
      if (whole) setFact(db, 'listed_at', String(began));
    });
    if (whole) await pruneChanges(store, began);
    return cards;
  }

  /** `undefined` where only the whole list tells what has changed. */
  async function soundFeed(from: number, to: number): Promise<Named[] | undefined> {
    try {
      return await changedSince(store, from, to);
    } catch (error) {
      if (!failedWith(error, 'corrupt')) throw error;
      return undefined;
    }
  }

  /** Those whose cards are damaged are looked at as if they had changed: that finds and notes why they cannot be read. */
  async function listed(damaged: Named[], much: (() => void) | undefined): Promise<Map<string, Card>> {
    const cards = new Map<string, Card>();
    let bytes = 0;
    for await (const card of nexus.list({ damaged: (one) => damaged.push(one) })) {
      cards.set(`${card.agent}/${card.transcript}`, card);
      bytes += card.length;
      if (bytes > muchBytes) much?.();
    }
    return cards;
  }

  /**
   * Of what the feed names, what may have changed: within the overlap every look sees the same names again. Of an agent
   * of which it names many the cards are listed, into `cards`, instead of looking at each of them.
   */
  async function changed(
    named: readonly Named[],
    cards: Map<string, Card>,
    damaged: Named[],
  ): Promise<Named[]> {
    const byAgent = Map.groupBy(named, ({ agent }) => agent);
    const known = new Map(
      (await index.read(() => countKnown.all())).map((row) => [String(row['agent']), Number(row['count'])]),
    );
    for (const [agent, { length }] of byAgent) {
      if (length <= mostSingly || length < (known.get(agent) ?? 0) * listShare) continue;
      byAgent.delete(agent);
      for await (const card of nexus.list({ agent, damaged: (one) => damaged.push(one) }))
        cards.set(`${agent}/${card.transcript}`, card);
    }
    const differ = new Set((await index.read(() => differing(cards))).map(nameOf));
    return named.filter((one) => byAgent.has(one.agent) || differ.has(nameOf(one)));
  }

  /** Transcripts that are stored and not read so far, or read and no longer stored. */
  function differing(cards: Map<string, Card>): { agent: string; transcript: string }[] {
    const differ = new Map<string, { agent: string; transcript: string }>(cards);
    for (const row of selectKnown.all()) {
      const [agent, transcript] = [String(row['agent']), String(row['name'])];
      const name = `${agent}/${transcript}`;
      const card = cards.get(name);
      const same =
        card !== undefined &&
        row['length'] === card.length &&
        row['complete'] === (card.complete ? 1 : 0) &&
        row['key'] === (card.sessionKey ?? null) &&
        row['trigger'] === (card.trigger ?? null) &&
        row['host'] === (card.host ?? null) &&
        row['unreadable'] === null &&
        row['read_to'] === card.length;
      if (same) differ.delete(name);
      else differ.set(name, { agent, transcript });
    }
    return [...differ.values()];
  }
}

function nameOf({ agent, transcript }: Named): string {
  return `${agent}/${transcript}`;
}
