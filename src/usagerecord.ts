/** One model call as a transcript records it. */
export interface Call {
  /** The record's own id; empty where it has none. */
  entry: string;
  /** ms since 1970. */
  at: number;
  provider: string;
  model: string;
  input: number;
  output: number;
  cacheRead: number;
  cacheWrite: number;
  /** Recorded cost in billionths of a dollar; `undefined` where none is recorded. */
  cost: number | undefined;
}

/** What is wrong with a record, by kind. Each is counted by transcript, and none stops the reading. */
export const oddities = {
  unparsable: 'a line that is no JSON object',
  too_long: 'a line longer than can be read',
  no_usage: "an assistant's message without token counts, which is not in the sums",
  no_timestamp: "an assistant's message without a time, or with one that cannot be, which is not in the sums",
  bad_count: 'a token count or cost that is negative, no whole number or beyond belief, taken for 0',
} as const;

export type Oddity = keyof typeof oddities;

/** Of these, what may have been a call that should be in the sums. A message without token counts has none to add. */
export const uncounted = ['unparsable', 'too_long', 'no_timestamp'] as const satisfies Oddity[];

export function isOddity(kind: unknown): kind is Oddity {
  return typeof kind === 'string' && Object.hasOwn(oddities, kind);
}

/** No call has more: it keeps sums in what a whole number holds. Tokens of one kind, and dollars. */
const mostTokens = 1e10;
const mostDollars = 1e5;

const earliest = Date.UTC(2000, 0, 1);

export type Json = Record<string, unknown>;

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

// What providers and OpenClaw's releases have called them; the first that is there counts.
const inputNames = ['input', 'inputTokens', 'input_tokens', 'promptTokens', 'prompt_tokens'];
const outputNames = ['output', 'outputTokens', 'output_tokens', 'completionTokens', 'completion_tokens'];
const cacheReadNames = [
  'cacheRead',
  'cacheReadTokens',
  'cacheReadInputTokens',
  'cache_read',
  'cache_read_tokens',
  'cache_read_input_tokens',
  'cachedTokens',
  'cached_tokens',
];
const cacheWriteNames = [
  'cacheWrite',
  'cacheWriteTokens',
  'cacheCreationInputTokens',
  'cache_write',
  'cache_write_tokens',
  'cache_creation_input_tokens',
];
/** Where what was read from a cache is also part of the input, as OpenAI says it. */
const details = [
  'prompt_tokens_details',
  'promptTokensDetails',
  'input_tokens_details',
  'inputTokensDetails',
];

/**
 * The call of an assistant's message; `undefined` for any other record, and for one that used nothing. `odd` is told of
 * each thing that is wrong with it. A time after `latest` is none.
 */
export function callOf(
  record: Json,
  odd: (kind: Oddity) => void,
  latest = Number.POSITIVE_INFINITY,
): Call | undefined {
  const message = record['message'];
  if (record['type'] !== 'message' || !isObject(message) || message['role'] !== 'assistant') return undefined;
  const [provider, model] = [textOf(message['provider']), textOf(message['model'])];
  if (isNoCall(provider, model, message['api'])) return undefined;
  const usage = message['usage'];
  const tokens = isObject(usage) ? tokensOf(usage, odd) : undefined;
  if (!isObject(usage) || tokens === undefined) {
    odd('no_usage');
    return undefined;
  }
  const cost = costOf(usage['cost'], odd);
  // A call that failed: nothing was used, and nothing is to be paid.
  if (isNothing(tokens) && (cost ?? 0) === 0) return undefined;
  const at = timeOf(record['timestamp'], latest) ?? timeOf(message['timestamp'], latest);
  if (at === undefined) {
    odd('no_timestamp');
    return undefined;
  }
  return { entry: textOf(record['id']), at, provider, model, ...tokens, cost };
}

function isNothing({ input, output, cacheRead, cacheWrite }: Tokens): boolean {
  return input === 0 && output === 0 && cacheRead === 0 && cacheWrite === 0;
}

/** What OpenClaw writes into a transcript in the place of an answer. */
function isNoCall(provider: string, model: string, api: unknown): boolean {
  return (
    api === 'openclaw-transcript' ||
    (provider === 'openclaw' && (model === 'delivery-mirror' || model === 'gateway-injected'))
  );
}

type Tokens = Pick<Call, 'input' | 'output' | 'cacheRead' | 'cacheWrite'>;

function tokensOf(usage: Json, odd: (kind: Oddity) => void): Tokens | undefined {
  const input = first(usage, inputNames);
  const output = first(usage, outputNames);
  const cacheWrite = first(usage, cacheWriteNames);
  let cacheRead = first(usage, cacheReadNames);
  let within = 0;
  const nested = details.map((name) => usage[name]).find(isObject);
  const cached = nested === undefined ? undefined : first(nested, ['cached_tokens', 'cachedTokens']);
  if (cacheRead === undefined && cached !== undefined) {
    cacheRead = cached;
    within = typeof cached === 'number' ? cached : 0;
  }
  if ([input, output, cacheRead, cacheWrite].every((count) => count === undefined)) return undefined;
  const wrong = { found: false };
  const tokens = {
    input: Math.max(0, countOf(input, wrong) - Math.max(0, within)),
    output: countOf(output, wrong),
    cacheRead: countOf(cacheRead, wrong),
    cacheWrite: countOf(cacheWrite, wrong),
  };
  if (wrong.found) odd('bad_count');
  return tokens;
}

function first(object: Json, names: readonly string[]): unknown {
  for (const name of names) {
    const value = object[name];
    if (value !== undefined && value !== null) return value;
  }
  return undefined;
}

function countOf(value: unknown, wrong: { found: boolean }): number {
  if (value === undefined) return 0;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= mostTokens) return value;
  wrong.found = true;
  return 0;
}

/** The total, else the sum of its parts, in billionths of a dollar. */
function costOf(cost: unknown, odd: (kind: Oddity) => void): number | undefined {
  let total: unknown = isObject(cost) ? cost['total'] : cost;
  if (isObject(cost) && typeof total !== 'number') {
    const parts = ['input', 'output', 'cacheRead', 'cacheWrite'].map((part) => cost[part]);
    const said = parts.filter((part) => typeof part === 'number');
    if (said.length > 0) total = said.reduce((sum, part) => sum + part, 0);
  }
  if (total === undefined || total === null) return undefined;
  if (typeof total === 'number' && total >= 0 && total <= mostDollars) return Math.round(total * 1e9);
  odd('bad_count');
  return undefined;
}

/**
 * ms since 1970 of an ISO time, or of ms; one that names no zone is in UTC, wherever it is read. `undefined` for what is
 * no time, is from before any model was called, or is after `latest`.
 */
export function timeOf(value: unknown, latest = Number.POSITIVE_INFINITY): number | undefined {
  const at =
    typeof value === 'string' ? parsedTime(value) : typeof value === 'number' ? Math.floor(value) : NaN;
  return at >= earliest && at <= latest && at < 8.64e15 ? at : undefined;
}

/** The text that was asked for last: of a call, once for its transcript and once for itself. */
const latestTime = { text: '', at: Number.NaN };

function parsedTime(text: string): number {
  if (text === latestTime.text) return latestTime.at;
  const isLocal = !text.endsWith('Z') && /^\d{4}-\d\d-\d\d[T ][\d:.]+$/.test(text);
  const at = Date.parse(isLocal ? `${text}Z` : text);
  latestTime.text = text;
  latestTime.at = at;
  return at;
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
