import type { ModelPrice } from './prices.ts';
import type { Era } from './transcripts.ts';

/** What the host knows about a transcript and sends along with its bytes. Times are ISO 8601, UTC. */
export interface About {
  /** Name of the machine that ships it. */
  host?: string;
  era?: Era;
  sessionKey?: string;
  /** What started the session, as OpenClaw tells it: `cron`, `webhook`, `heartbeat`, `channel`, `subagent`, `operator`, `run`. */
  trigger?: string;
  firstEventAt?: string;
  lastEventAt?: string;
  /** OpenClaw's own session id, where the transcript's name is not it (a topic, a fork, a second history). */
  sessionId?: string;
}

/** A transcript as the archive holds it: its index card. */
export interface Card extends About {
  agent: string;
  transcript: string;
  /** Blob name below the container: `inbox/{agent}/{transcript}.jsonl`. */
  path: string;
  /** Bytes stored. */
  length: number;
  /** Will not grow by itself. A hint: an append at the right place reopens it. */
  complete: boolean;
  /** SHA-256 of the stored bytes, lower-case hex, when it was asked for or is known for this very length. */
  digest?: string;
  /** When its first bytes were stored. */
  storedAt: string;
  /** When it last grew or was completed. */
  updatedAt: string;
}

export interface StatOptions {
  /**
   * `known`: only when the card has it for this length (the default). `stored`: computed when it is not.
   * `reread`: computed from the stored bytes now, whatever the card says; a difference is `corrupt`.
   */
  digest?: 'known' | 'stored' | 'reread';
}

/** Something that is stored and is not what was stored. */
export interface Damaged {
  /** `agent/transcript`, or the row, the blob or the file that it is. */
  item: string;
  /** A sentence. */
  reason: string;
  /** Whose it is, where that is known. */
  agent?: string;
}

export interface ListOptions {
  agent?: string;
  /** Only transcripts that changed at or after this ISO time. */
  since?: string;
  /** Only those that come after this one in the listing's order; it need not exist. */
  after?: { agent: string; transcript: string };
  /** Told of those whose card or length is damaged, which are left out; without it, that is thrown as `corrupt`. */
  damaged?: (damaged: Damaged & { agent: string; transcript: string }) => void;
}

/**
 * What a host job needs from Nexus. Two implementations keep the same promises: in this process, straight on a
 * store (`sessions.ts`), and over HTTP (`http/client.ts`). Everything resolved is durable.
 *
 * Errors: `conflict` with the true `length`, `unavailable` and `busy` (already retried where that helps),
 * `unauthorized`, `forbidden`, `invalid`, `too_large`, `corrupt`.
 */
export interface Nexus {
  /** The id of the store behind it; what a host believes to be shipped belongs to this id. */
  storeId(): Promise<string>;

  /** The card, or `undefined` when nothing is stored under that name. */
  stat(agent: string, transcript: string, options?: StatOptions): Promise<Card | undefined>;

  /**
   * Adds bytes at `offset`, which must be the stored length (0 when absent), and says whether that completes it.
   * No bytes at the right offset: only `complete` and `about` are recorded; at 0 this makes an empty transcript.
   * Resolves with the new length. At most `maxChunkBytes` at a time. `conflict` carries the true length: after a
   * lost answer the caller settles by `stat`.
   */
  append(
    agent: string,
    transcript: string,
    offset: number,
    bytes: Uint8Array,
    facts: { complete: boolean; about: About },
  ): Promise<number>;

  /** The stored bytes from `from` up to, not including, `to`. `not_found` when absent. */
  read(agent: string, transcript: string, from?: number, to?: number): AsyncIterable<Uint8Array>;

  /** Cards, by agent and transcript in ascending order. */
  list(options?: ListOptions): AsyncIterable<Card>;

  /**
   * Looks through all that is stored, whatever host it came from, and names what is damaged. Takes long. Throws the
   * signal's reason when that ends it.
   */
  damage(signal?: AbortSignal): AsyncIterable<Damaged>;

  /**
   * The mark that a host last left for an agent, or `undefined`. A host leaves a fresh random one around each run
   * that ships something; a store that was set back to an earlier state shows an earlier mark, and then the
   * host believes nothing and settles.
   */
  mark(agent: string, host: string): Promise<string | undefined>;
  setMark(agent: string, host: string, mark: string): Promise<void>;

  /** Keeps what a host's openclaw.json says that models cost, with the time, where it has changed. */
  setPrices(agent: string, host: string, prices: readonly ModelPrice[]): Promise<void>;

  close(): Promise<void>;
}

/** The most bytes one append takes: 10 × 1024². */
export const maxChunkBytes = 10 * 1024 * 1024;
