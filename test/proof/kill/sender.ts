import { createHmac, randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Broken } from '../part.ts';

/** A secret of no meaning, that GitHub's signatures are made with here. */
export const secret = 'a secret of no meaning';

/** One delivery as its sender knows it. */
export interface Sent {
  delivery: string;
  contentType: string;
  body: Buffer;
  /** What the endpoint called it when it acknowledged it. */
  id?: string;
}

/** A service outside that posts webhooks all the time and remembers what was acknowledged. */
export interface Sender {
  /** By the id that the endpoint gave. */
  acknowledged: ReadonlyMap<string, Sent>;
  /** Tries that got no answer, and answers that asked to try again. */
  unanswered: number;
  /** Requests that an answer is waited for. */
  inFlight: number;
  /** Where the endpoint is now; `undefined` while there is none. */
  sendTo(url: string | undefined): void;
  /** Resolves when all that was begun is answered. */
  stop(): Promise<void>;
}

export interface SenderOptions {
  agent: string;
  random: () => number;
  /** Pause after an answer, ms. */
  pauseMs: number;
  connections: number;
  broken: (one: Broken) => void;
  again: () => string;
}

const answerMs = 20_000;

export function openSender(options: SenderOptions): Sender {
  const { agent, random, broken, again } = options;
  const acknowledged = new Map<string, Sent>();
  let url: string | undefined;
  let moved = Promise.withResolvers<void>();
  const stopping = new AbortController();

  const sender: Sender = {
    acknowledged,
    unanswered: 0,
    inFlight: 0,
    sendTo(next) {
      url = next;
      moved.resolve();
      moved = Promise.withResolvers();
    },
    async stop() {
      stopping.abort();
      moved.resolve();
      await sending;
    },
  };

  /** Until it is answered, under the same delivery id, as a sender does. */
  async function send(sent: Sent): Promise<void> {
    for (;;) {
      if (url === undefined && stopping.signal.aborted) return;
      if (url === undefined) {
        await moved.promise;
        continue;
      }
      sender.inFlight++;
      const answer = await postWebhook(url, agent, sent)
        .catch(() => undefined)
        .finally(() => sender.inFlight--);
      if (answer !== undefined && (answer.status === 202 || answer.status === 200)) {
        note(sent, answer.id);
        return;
      }
      sender.unanswered++;
      if (answer !== undefined && answer.status !== 503)
        broken({ what: `A webhook was answered with ${answer.status} ${answer.text}`, again: again() });
      await sleep(20);
    }
  }

  function note(sent: Sent, id: string): void {
    const other = acknowledged.get(id);
    if (other !== undefined && other !== sent)
      broken({ what: `${id} was the answer to two deliveries`, again: again() });
    sent.id = id;
    acknowledged.set(id, sent);
  }

  async function keepSending(): Promise<void> {
    while (!stopping.signal.aborted) {
      await send(someDelivery(random));
      await sleep(options.pauseMs * random() * 2);
    }
  }
  const sending = Promise.all(Array.from({ length: options.connections }, keepSending));
  return sender;
}

/** Most small, some larger than a row, some no JSON. */
export function someDelivery(random: () => number): Sent {
  const delivery = randomUUID();
  const kind = random();
  const filling = randomBytes(kind < 0.1 ? 30_000 : Math.floor(random() * 600)).toString('base64');
  if (kind > 0.9)
    return { delivery, contentType: 'text/plain', body: Buffer.from(`${delivery} ${filling}\n`) };
  if (kind > 0.85)
    return {
      delivery,
      contentType: 'application/octet-stream',
      body: Buffer.from([255, 0, 254, ...randomBytes(99)]),
    };
  const body = `{"delivery":"${delivery}", "n":12345678901234567890.10,"text":"é✓ ${filling}"}`;
  return { delivery, contentType: 'application/json', body: Buffer.from(body) };
}

export async function postWebhook(
  url: string,
  agent: string,
  { delivery, contentType, body }: Sent,
): Promise<{ status: number; id: string; text: string }> {
  const signature = createHmac('sha256', secret).update(body).digest('hex');
  const response = await fetch(`${url}/api/webhook/${agent}?source=github`, {
    method: 'POST',
    headers: {
      'content-type': contentType,
      'x-github-delivery': delivery,
      'x-hub-signature-256': `sha256=${signature}`,
    },
    body: Uint8Array.from(body),
    signal: AbortSignal.timeout(answerMs),
  });
  const text = await response.text();
  return { status: response.status, id: /"id":"([^"]+)"/.exec(text)?.[1] ?? '', text };
}
