import { createHash, randomUUID } from 'node:crypto';

const filling = createHash('sha512').update('what a webhook is filled with').digest('base64').repeat(8000);

/** The same bytes for the same number, of 1 KiB mostly, one in 63 of 20 to 300 KiB. */
export function webhookBody(nth: number): Buffer {
  const length = nth % 63 === 7 ? 20_000 + ((nth * 7919) % 280_000) : 1000;
  const from = (nth * 31) % 4096;
  return Buffer.from(JSON.stringify({ nth, filling: filling.slice(from, from + length) }));
}

/** The number of a webhook, where the payload is what was sent under it. */
export function numberOf(payload: unknown): number | undefined {
  if (typeof payload !== 'object' || payload === null || !('nth' in payload)) return undefined;
  const { nth } = payload;
  if (typeof nth !== 'number') return undefined;
  return JSON.stringify(payload) === webhookBody(nth).toString() ? nth : undefined;
}

export interface Spent {
  calls: number;
  tokens: number;
}

export function headerLine(id: string, now: number): string {
  return `${JSON.stringify({ type: 'session', version: 3, id, timestamp: new Date(now).toISOString() })}\n`;
}

/** A question and a model's answer, as OpenClaw writes them; what the call used is added to `spent`. */
export function turnLines(now: number, random: () => number, spent: Spent): string {
  const upTo = (most: number): number => Math.floor(random() * most);
  const timestamp = new Date(now).toISOString();
  const text = filling.slice(upTo(1000), 1000 + upTo(6000));
  const [input, output, cacheRead, cacheWrite] = [1 + upTo(5000), 1 + upTo(900), upTo(90_000), upTo(3000)];
  const totalTokens = input + output + cacheRead + cacheWrite;
  spent.calls++;
  spent.tokens += totalTokens;
  const usage = { input, output, cacheRead, cacheWrite, totalTokens, cost: { total: input * 5e-6 } };
  const lines = [
    { role: 'user', content: [{ type: 'text', text }] },
    {
      role: 'assistant',
      content: [{ type: 'text', text }],
      provider: 'anthropic',
      model: 'claude-opus-4-8',
      usage,
      stopReason: 'stop',
    },
  ].map((message) => ({ type: 'message', id: randomUUID(), parentId: null, timestamp, message }));
  return lines.map((line) => `${JSON.stringify(line)}\n`).join('');
}
