import type { About } from '../nexus.ts';
import type { Era } from '../transcripts.ts';

/** What a place is, which decides whether it is shipped, whether it is complete, and what may be moved. */
export type Kind =
  | 'plain' // <sid>.jsonl and its like, referenced or left behind
  | 'reset' // .jsonl.reset.<ts>
  | 'deleted' // .jsonl.deleted.<ts>
  | 'imported' // session-sqlite-import-archive/*.jsonl.imported-<ms>
  | 'archived' // in archive/ beside the sessions, moved there by Nexus
  | 'rows' // transcript_events
  | 'archive-row' // session_transcript_archives
  | 'cold' // cold/*.jsonl.zst or session_transcript_cold_archives
  | 'checkpoint' // <sid>.checkpoint.<uuid>.jsonl
  | 'backup' // .jsonl.bak…
  | 'corrupt'; // .jsonl.corrupt-<ts>-<hex>.jsonl

/** A clock that was wrong may have left times this far in the future; what is beyond says nothing and is quiet. */
const clockSkewMs = 60_000;

/** True when something that last changed then has been quiet for `ms`. */
export function isQuiet(changedAt: number, now: number, ms: number): boolean {
  return now - changedAt >= ms || changedAt - now > clockSkewMs;
}

/** Copies that only `backfill --all` ships. */
export const copyKinds: ReadonlySet<Kind> = new Set(['checkpoint', 'backup', 'corrupt']);

/**
 * One place that holds one transcript's bytes. Several places may hold the same transcript: content decides.
 */
export interface Place {
  /** OpenClaw's agent id. */
  agent: string;
  /** Unique on this host: an absolute path, or the database's path + `#rows/<session id>` and the like. */
  place: string;
  kind: Kind;
  era: Era;
  /** The name it asks for in the archive (`transcriptOf`), before content decides which history it is. */
  transcript: string;
  /** OpenClaw's session id. */
  sessionId: string;
  /** Changes whenever the bytes may have; equal means unchanged, without opening it. */
  signature: string;
  /** Will not grow by itself. `undefined`: cannot be told (an unreadable sessions.json), so treated as active. */
  complete: boolean | undefined;
  /** Somebody holds a live lock on it. */
  busy: boolean;
  /** Last change, ms since 1970. */
  changedAt: number;
  /** When it was made, ms since 1970, where that can be told. */
  bornAt?: number;
  /** Bytes there, as a guess for progress (compressed size for a compressed place). */
  size: number;
  /** When OpenClaw deletes it by its own rules, ms since 1970; `undefined`: no deadline known. */
  prunedAt: number | undefined;
  about: Pick<About, 'sessionKey' | 'trigger' | 'firstEventAt' | 'lastEventAt'>;
  /** For file places that may be moved to `archive/` once stored: `closed` at once, `left` after archiveAfterHours. */
  movable: 'closed' | 'left' | undefined;
  /**
   * Opens the bytes of the transcript as they are now. `changed` when it has vanished; `forbidden` when it
   * cannot be read; `corrupt` when a compressed place does not decompress or a row has not its length.
   */
  open(): Promise<Bytes>;
}

/** An opened place. The bytes end at the last newline, unless the transcript is complete: then at its end. */
export interface Bytes {
  /** The transcript's bytes from the first, in pieces of which each is good until the next is asked for. Once only. */
  pieces(): AsyncIterable<Uint8Array>;
  /**
   * Throws `changed` when what was read so far is no longer what is there. Called before bytes are shipped, so
   * that no mixture of two versions is ever stored.
   */
  unchanged(): Promise<void>;
  close(): Promise<void>;
}

/** Why an agent's data, or one place of it, cannot be read: names, owner, mode and what to run. */
export interface Unreadable {
  agent: string | undefined;
  path: string;
  /** One sentence with owner and mode. */
  reason: string;
  /** A command that shows it, e.g. `ls -ld /path`. */
  command: string;
}

/** All that one look at an agent found. */
export interface Listing {
  places: Place[];
  /** Named things that are not shipped, with why: symlinks out of the directory, what is no regular file, …. */
  skipped: { item: string; reason: string }[];
  unreadable: Unreadable[];
}

export interface ListRequest {
  /** Everything there is (backfill) rather than what can still change or has not been moved away (upload). */
  everything: boolean;
  /** Injected clock, ms since 1970. */
  now: number;
  /** A plain file that nobody points at is complete when it has been quiet this long, ms. */
  settleMs: number;
}
