export interface TellRequest {
  /** OpenClaw's id. */
  agent: string;
  batch: string;
  /** 1, then 2 and so on for its repeats; the same number again is the same message. */
  attempt: number;
  message: string;
  /** How long to wait for the agent to finish; 0 does not wait. Its run goes on when the wait is over. */
  waitSeconds: number;
  signal: AbortSignal;
  /** The longest that one request waits, ms; for tests. */
  requestMs?: number;
}

/** What became of one message. */
export type Outcome =
  /** The agent has finished with it. */
  | { state: 'done' }
  /** OpenClaw has taken it; how it ended, or will end, is not known. `reference` is OpenClaw's id of the run. */
  | { state: 'admitted'; reference?: string }
  /** `refused`: OpenClaw has certainly not taken it. Else it may have, and an agent may have seen it. */
  | { state: 'failed'; reason: string; refused: boolean };

export function refused(reason: string): Outcome {
  return { state: 'failed', reason, refused: true };
}

export function unclear(reason: string): Outcome {
  return { state: 'failed', reason, refused: false };
}

/** What somebody else says, as part of a sentence. */
export function oneLine(text: string): string {
  return text
    .replace(/[\p{C}\p{Zl}\p{Zp}\s]+/gu, ' ')
    .trim()
    .slice(0, 300)
    .replace(/[.:]+$/, '');
}
