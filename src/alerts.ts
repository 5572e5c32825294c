import { randomUUID } from 'node:crypto';
import { describe, failedWith, NexusError } from './errors.ts';
import { keyOf, removeFound, type Row, rowOf, type Store } from './stores/store.ts';

/** What people are told. Every text is one line or a few, without secrets. */
export interface Notice {
  event: 'failed' | 'recovered' | 'warning' | 'test';
  /** Where it happened. */
  host: string;
  /** What it is about: `job/upload`, `unit/nexus-serve.service`, `budget/main/2026-11/80`. */
  subject: string;
  /** One sentence that says it all. */
  title: string;
  error?: string;
  atRisk?: string;
  /** What to run or change. */
  next?: string;
  /** ISO 8601, UTC: when it began, and when the notice was made. */
  since?: string;
  at: string;
}

/** A way by which notices leave. `name` is the same as long as its settings are. */
export interface Channel {
  name: string;
  /** All that is sent on it in one go takes no longer. */
  longestMs?: number;
  /** Throws a sentence when it was not taken; ends at the signal. */
  send: (notice: Notice, id: string, signal: AbortSignal) => Promise<string>;
}

/** How far one notice has come on one channel. */
export interface Delivery {
  channel: string;
  event: 'raised' | 'recovered';
  state: 'sent' | 'sending' | 'failed';
  /** ISO 8601: when it was sent, or when the lease or the pause is over. */
  at: string;
  tries: number;
  reason?: string;
}

/** An alert that was raised, the latest of its subject. */
export interface Latched {
  subject: string;
  /** The first of a subject is 1. */
  number: number;
  raised: Notice;
  /** Absent while it lasts. */
  recovered?: Notice;
  /** The channels that there were when it was raised: they are told when it is over. */
  channels: string[];
  deliveries: Delivery[];
}

export interface Sent {
  channel: string;
  notice: Notice;
  /** Absent when it was sent. */
  failure?: string;
}

/**
 * Alerts latched in a store: who finds something wrong raises it, and of any number who do so at the same time, or
 * again while it lasts, one is told that it is new. A notice goes out once on each channel: who sends it takes it
 * with a lease first and marks it sent afterwards. A process that dies in between is followed by another when the
 * lease is over, which may repeat a notice and never loses one. A channel that fails is tried again after a pause;
 * what has recovered meanwhile is told by its recovery alone, and a recovery that waits when its subject is raised anew
 * goes out before that.
 *
 * Only `insert` of a store decides a race, so that all stores hold it: the next number of a subject, its recovery and
 * each claim are rows that one process alone can add. Clocks of different machines may differ by less than the lease.
 *
 * A row that rotted says nothing but its id and keeps nothing else from being told: what it latched is as if it had
 * never been raised, sent or ended, so that a notice may repeat. The next that is raised of its subject replaces it.
 */
export interface Alerts {
  /** Raises an alert unless one of its subject lasts. False when it does, or when another process was first. */
  raise: (notice: Notice, channels: readonly string[]) => Promise<boolean>;
  /** Ends the alert of this subject; false when there is none that lasts. */
  recover: (notice: Notice) => Promise<boolean>;
  /** The latest of each subject, by subject. */
  list: () => Promise<Latched[]>;
  /** Sends what is due on these channels, and resolves with what was tried. */
  send: (channels: readonly Channel[], signal: AbortSignal) => Promise<Sent[]>;
  /**
   * Forgets subjects that are over for good, and what has rotted of any; what is being sent of them then leaves nothing
   * behind.
   */
  forget: (subjects: readonly string[]) => Promise<void>;
}

export interface AlertsOptions {
  /** Injected clock, ms since 1970. */
  now?: () => number;
  /** How long one may take to send; at least twice what sending takes. */
  leaseMs?: number;
}

const table = 'Alerts';
const partition = 'latched';

/** A channel that failed is tried again after this, doubled each time up to the longest. */
const pauseMs = { least: 60_000, most: 3_600_000 };

/** A recovery that no channel took for so long interests nobody any more. */
const staleMs = 3 * 86_400_000;

const longestText = 4000;

export function openAlerts(store: Store, options: AlertsOptions = {}): Alerts {
  const now = options.now ?? (() => Date.now());
  const leaseMs = options.leaseMs ?? 120_000;

  async function insert(row: Row): Promise<boolean> {
    try {
      await store.insert(table, row);
      return true;
    } catch (error) {
      if (!failedWith(error, 'conflict')) throw error;
      let isRotted = false;
      await rowOf(store, table, partition, row.id, () => (isRotted = true));
      if (isRotted) await store.put(table, row);
      return isRotted;
    }
  }

  async function episodes(): Promise<Map<string, Episode[]>> {
    const found = new Map<string, Episode[]>();
    const take = (id: string, row?: Row): void => {
      const parts = partsOf(id);
      if (parts === undefined) return;
      const all = found.get(parts.key) ?? [];
      found.set(parts.key, all);
      let episode = all.find(({ number }) => number === parts.number);
      if (episode === undefined) all.push((episode = { number: parts.number, rows: [] }));
      episode.rows.push({ ...parts, id, row });
    };
    for await (const row of store.rows(table, partition, {}, (id) => take(id))) take(row.id, row);
    for (const all of found.values()) all.sort((a, b) => a.number - b.number);
    return found;
  }

  async function latest(): Promise<{ latched: Latched; before: Latched | undefined }[]> {
    return [...(await episodes()).values()].flatMap((all) => {
      const latched = latchedOf(all.at(-1), now());
      return latched === undefined ? [] : [{ latched, before: latchedOf(all.at(-2), now()) }];
    });
  }

  /** A claim that was removed with its alert, or taken by another since, notes nothing more. */
  async function isHeld({ id, holder }: { id: string; holder: string }): Promise<boolean> {
    return (await rowOf(store, table, partition, id, () => undefined))?.['holder'] === holder;
  }

  /** Sends one notice on one channel, if nobody else does or did; `undefined` then. */
  async function sendOne(
    latched: Latched,
    event: Delivery['event'],
    notice: Notice,
    channel: Channel,
    signal: AbortSignal,
  ): Promise<Sent | undefined> {
    const before = latched.deliveries.find((one) => one.channel === channel.name && one.event === event);
    const tries = (before?.tries ?? 0) + 1;
    const prefix = `${idOf(latched.subject, latched.number)}~~${words[event]}~~${channel.name}`;
    const claim = {
      partition,
      id: `${prefix}~~${padded(tries)}`,
      channel: channel.name,
      holder: randomUUID(),
    };
    if (!(await insert({ ...claim, until: now() + leaseMs }))) return undefined;
    try {
      // The same notice keeps its id on all its tries, so that a receiver can tell a repeat.
      await orEnd(
        channel.send(notice, `${notice.host}.${latched.raised.at}.${event}.${latched.subject}`, signal),
        signal,
      );
    } catch (error) {
      const reason = describe(error).slice(0, longestText);
      if (!(await isHeld(claim))) return { channel: channel.name, notice, failure: reason };
      const pause = Math.min(pauseMs.most, pauseMs.least * 2 ** Math.min(tries - 1, 20));
      await store.put(table, { ...claim, until: now() + pause, reason });
      if (tries > 2) await store.removeRows(table, partition, [`${prefix}~~${padded(tries - 2)}`]);
      return { channel: channel.name, notice, failure: reason };
    }
    if (await isHeld(claim))
      await store.put(table, { partition, id: `${prefix}~~sent`, channel: channel.name, at: now() });
    return { channel: channel.name, notice };
  }

  return {
    async raise(notice, channels) {
      const all = (await episodes()).get(keyOf(notice.subject)) ?? [];
      const last = latchedOf(all.at(-1), now());
      if (last !== undefined && last.recovered === undefined) return false;
      const number = (all.at(-1)?.number ?? 0) + 1;
      const row = {
        partition,
        id: `${idOf(notice.subject, number)}~~${words.raised}`,
        channels: channels.join(' '),
      };
      if (!(await insert({ ...row, ...fieldsOf(notice) }))) return false;
      const over = last !== undefined && isRecoveryDue(last, now()) ? all.slice(0, -1) : all;
      await removeFound(store, table, partition, idsOf(over));
      return true;
    },
    async recover(notice) {
      const last = latchedOf((await episodes()).get(keyOf(notice.subject))?.at(-1), now());
      if (last === undefined || last.recovered !== undefined) return false;
      return await insert({
        partition,
        id: `${idOf(notice.subject, last.number)}~~${words.recovered}`,
        ...fieldsOf(notice),
      });
    },
    list: async () => (await latest()).map(({ latched }) => latched),
    async send(channels, signal) {
      const all = await latest();
      const results = await Promise.all(
        channels.map(async (channel) => {
          const { name, longestMs } = channel;
          const until =
            longestMs === undefined ? signal : AbortSignal.any([signal, AbortSignal.timeout(longestMs)]);
          const sent: Sent[] = [];
          const turns = all.flatMap(({ latched, before }) =>
            before === undefined || knowsOf(latched, name) ? [latched] : [before, latched],
          );
          for (const latched of turns) {
            if (until.aborted) break;
            const due = dueOn(latched, name, now(), leaseMs);
            if (due === undefined) continue;
            const result = await sendOne(latched, due.event, due.notice, channel, until);
            if (result !== undefined) sent.push(result);
          }
          return sent;
        }),
      );
      return results.flat();
    },
    async forget(subjects) {
      const found = await episodes();
      const rotted = [...found.values()].flat().map(({ rows, ...episode }) => ({
        ...episode,
        rows: rows.filter(({ row }) => row === undefined),
      }));
      const over = subjects.flatMap((subject) => found.get(keyOf(subject)) ?? []);
      await removeFound(store, table, partition, [...new Set(idsOf([...over, ...rotted]))]);
    },
  };
}

/** Not every channel that is concerned was told of the end, and it is worth telling. */
function isRecoveryDue({ recovered, deliveries, channels }: Latched, now: number): boolean {
  if (recovered === undefined || now - Date.parse(recovered.at) > staleMs) return false;
  const concerned = [...channels.filter((one) => one !== ''), ...deliveries.map(({ channel }) => channel)];
  return concerned.some(
    (channel) =>
      !deliveries.some((one) => one.channel === channel && one.event === 'recovered' && one.state === 'sent'),
  );
}

/** To say now that it was over before would be taken for the end of what lasts. */
function knowsOf({ deliveries }: Latched, channel: string): boolean {
  return deliveries.some((one) => one.channel === channel && one.state !== 'failed');
}

/** A channel that does not heed the signal keeps nobody. */
async function orEnd(sending: Promise<string>, signal: AbortSignal): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const end = () => reject(new NexusError('unavailable', 'It did not take the alert in time.'));
  if (signal.aborted) end();
  // Its own sentence comes first, where it has one.
  const late = () => setTimeout(end, 500);
  signal.addEventListener('abort', late, { once: true });
  try {
    await Promise.race([sending, promise]);
  } finally {
    signal.removeEventListener('abort', late);
  }
}

/** What is to be sent on a channel now: nothing where it was sent, or is held, or has to wait. */
function dueOn(
  latched: Latched,
  channel: string,
  now: number,
  leaseMs: number,
): { event: Delivery['event']; notice: Notice } | undefined {
  const untold = untoldOn(latched, channel, now);
  if (untold === undefined) return undefined;
  // A clock that was wrong must not keep it for ever.
  const until = untold.delivery === undefined ? 0 : Date.parse(untold.delivery.at);
  if (until > now && until - now <= Math.max(leaseMs, pauseMs.most)) return undefined;
  return untold;
}

/** What a channel has not taken yet and shall, and how far that is. */
export function untoldOn(
  latched: Latched,
  channel: string,
  now: number,
): { event: Delivery['event']; notice: Notice; delivery: Delivery | undefined } | undefined {
  const { raised, recovered, deliveries } = latched;
  const of = (event: Delivery['event']) =>
    deliveries.find((one) => one.channel === channel && one.event === event);
  const event = recovered === undefined ? 'raised' : 'recovered';
  const delivery = of(event);
  if (delivery?.state === 'sent') return undefined;
  if (recovered === undefined) return { event, notice: raised, delivery };
  // A channel that was set up since knows nothing of what is over.
  const concerned = of('raised') !== undefined || latched.channels.includes(channel);
  if (!concerned || now - Date.parse(recovered.at) > staleMs) return undefined;
  return { event, notice: recovered, delivery };
}

interface Parts {
  key: string;
  number: number;
  event: Delivery['event'];
  channel: string | undefined;
  /** A claim's number, or `sent`. */
  claim: string | undefined;
}

interface Episode {
  number: number;
  /** Of one that rotted there is its id alone. */
  rows: (Parts & { id: string; row: Row | undefined })[];
}

function idsOf(episodes: readonly Episode[]): string[] {
  return episodes.flatMap(({ rows }) => rows.map(({ id }) => id));
}

/** `~~` is in no key that `keyOf` makes. At its longest an id has the 200 characters that a store takes. */
function idOf(subject: string, number: number): string {
  return `${keyOf(subject)}~~${String(number).padStart(5, '0')}`;
}

/** In ids. */
const words = { raised: 'raised', recovered: 'over' } as const;

function padded(claim: number): string {
  return String(claim).padStart(4, '0');
}

function partsOf(id: string): Parts | undefined {
  const [key = '', number = '', word, channel, claim] = id.split('~~');
  const event = word === words.raised ? 'raised' : word === words.recovered ? 'recovered' : undefined;
  if (event === undefined || !/^\d+$/.test(number)) return undefined;
  return { key, number: Number(number), event, channel, claim };
}

function latchedOf(episode: Episode | undefined, now: number): Latched | undefined {
  if (episode === undefined) return undefined;
  const { number, rows } = episode;
  const noticeOf = (event: Delivery['event']) =>
    rows.find((one) => one.event === event && one.channel === undefined)?.row;
  const raisedRow = noticeOf('raised');
  // What is left of one that is being removed, or has rotted.
  if (raisedRow === undefined) return undefined;
  const raised = noticeIn(raisedRow);
  const recoveredRow = noticeOf('recovered');
  const deliveries = new Map<string, Delivery>();
  for (const { event, channel, claim, row } of rows) {
    if (channel === undefined || claim === undefined || row === undefined) continue;
    const key = `${event} ${channel}`;
    const sent = claim === 'sent';
    // Ids ascend, so that a later claim replaces an earlier one, and "sent" all of them.
    const before = deliveries.get(key)?.tries ?? 0;
    // As text the ten thousandth would come before the others.
    if (!sent && Number(claim) < before) continue;
    const tries = sent ? Math.max(1, before) : Number(claim);
    const until = Number(sent ? row['at'] : row['until']);
    const { reason } = row;
    const failed = typeof reason === 'string' ? { reason } : {};
    const state = sent ? 'sent' : typeof reason === 'string' || until <= now ? 'failed' : 'sending';
    deliveries.set(key, { channel, event, state, at: new Date(until).toISOString(), tries, ...failed });
  }
  return {
    subject: raised.subject,
    number,
    raised,
    ...(recoveredRow === undefined ? {} : { recovered: noticeIn(recoveredRow) }),
    deliveries: [...deliveries.values()],
    channels: String(raisedRow['channels'] ?? '').split(' '),
  };
}

function fieldsOf(notice: Notice): Record<string, string> {
  return Object.fromEntries(
    Object.entries(notice).flatMap(([name, value]: [string, string | undefined]) =>
      value === undefined ? [] : [[name, value.slice(0, longestText)]],
    ),
  );
}

function noticeIn(row: Row): Notice {
  const textIn = (name: string) => String(row[name] ?? '');
  const optional = (name: 'error' | 'atRisk' | 'next' | 'since') =>
    row[name] === undefined ? {} : { [name]: textIn(name) };
  const event = textIn('event');
  return {
    event: event === 'recovered' || event === 'warning' || event === 'test' ? event : 'failed',
    host: textIn('host'),
    subject: textIn('subject'),
    title: textIn('title'),
    ...optional('error'),
    ...optional('atRisk'),
    ...optional('next'),
    ...optional('since'),
    at: textIn('at'),
  };
}
