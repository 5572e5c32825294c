import { NexusError } from './errors.ts';
import { keyOf } from './stores/store.ts';

/** `file`: JSONL files (OpenClaw to 2026.7). `sqlite`: rows of `transcript_events` (2026.8 and later). */
export type Era = 'file' | 'sqlite';

const transcriptPattern = /^(?!\.)[A-Za-z0-9._~-]{1,190}(?<!\.)$/;

/** Refuses what no transcript can be called: see `transcriptOf` and `historyOf`. */
export function checkTranscript(transcript: string): string {
  if (!transcriptPattern.test(transcript))
    throw new NexusError(
      'invalid',
      `Invalid transcript ${JSON.stringify(transcript.slice(0, 80))}: use letters, digits, ".", "_", "-" and "~", at most 190.`,
    );
  return transcript;
}

/** The name under which OpenClaw's session id (or a thread's, with its topic) is archived: itself, made a key. */
export function transcriptOf(sessionName: string): string {
  return keyOf(sessionName);
}

/** The n-th history under one name: `X`, `X~2`, `X~3`, … */
export function historyOf(transcript: string, n: number): string {
  return n === 1 ? transcript : `${transcript}~${n}`;
}

/** The session that a transcript is a history of: `X` for `X~2`. */
export function sessionOf(transcript: string): string {
  return transcript.replace(/~\d+$/, '');
}
