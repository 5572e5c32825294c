import * as z from 'zod';
import { NexusError } from '../errors.ts';
import { withoutSecrets } from './callback.ts';
import { type Asked, endless, notPutio, refusalOf, unreached } from './refusal.ts';

export interface PutioOptions {
  /** Without a slash at its end. */
  base: string;
  token: string;
  /** Of one request, its answer included; default 20 s. */
  timeoutMs?: number;
  /** Of all that is asked, from the opening on; default without end. */
  wholeMs?: number;
  signal?: AbortSignal;
  now?: () => Date;
}

/** What happened at the account, as put.io's history has it. Fields depend on the type. */
export interface PutioEvent {
  id: number;
  type: string;
  /** As put.io writes it; empty where it says nothing. */
  createdAt: string;
  transferId?: number;
  transferName?: string;
  fileId?: number;
  message?: string;
}

/**
 * put.io's API, as far as Nexus uses it; paths and fields are those of put.io's own TypeScript SDK. Errors are
 * sentences with a next step: `unauthorized`, `forbidden`, `invalid`, `not_found`, `limited` with `retryAfter`, else
 * `unavailable`. Nothing is tried twice. The token is sent to `base` alone, and is in no message.
 */
export interface Putio {
  /** The account's callback; `undefined` when there is none. */
  callback(): Promise<string | undefined>;
  setCallback(url: string | undefined): Promise<void>;
  account(): Promise<{ username: string | undefined; callbackHasFailed: boolean }>;
  /** `undefined` when the account has no such transfer, or none any more. */
  transfer(id: number): Promise<object | undefined>;
  /**
   * All that are in the account's list, page by page, in put.io's order; what is no transfer is `{}`. `unavailable`
   * where the list does not end.
   */
  transfers(): AsyncIterable<object>;
  /** The newest first, without what is no event. As long as it is read, and not without end. */
  events(): AsyncIterable<PutioEvent>;
}

const settingsSchema = z.object({ settings: z.object({ callback_url: z.string().nullish() }) });
const accountSchema = z.object({
  info: z.object({
    username: z.string().nullish(),
    warnings: z.object({ callback_url_has_failed: z.boolean().nullish() }).nullish(),
  }),
});
const fieldsSchema = z.record(z.string(), z.unknown());
const transferSchema = z.object({ transfer: fieldsSchema });
const transfersSchema = z.object({ transfers: z.array(z.unknown()), cursor: z.string().nullish() });
// One that is odd does not make the others so.
const eventsSchema = z.object({ events: z.array(z.unknown()), has_more: z.boolean().nullish() });
const text = z.string().nullish().catch(null);
const number = z.number().nullish().catch(null);
const eventSchema = z.object({
  id: z.number(),
  type: z.string(),
  created_at: z.union([z.string(), z.number().transform(String)]).catch(''),
  transfer_id: number,
  transfer_name: text,
  file_id: number,
  message: text,
});
const errorSchema = z.object({ error_type: z.string().nullish(), error_message: z.string().nullish() });

const perPage = 100;
/** An account of a hundred thousand transfers; more than anybody has. */
const mostPages = 1000;
const longestAnswer = 32 * 1024 * 1024;

export function openPutio({
  base,
  token,
  timeoutMs = 20_000,
  wholeMs = Number.POSITIVE_INFINITY,
  signal,
  now = () => new Date(),
}: PutioOptions): Putio {
  // fetch would quote one that no header can carry.
  if (!/^[\x21-\x7e]{1,1000}$/.test(token))
    throw new NexusError('config', "What is set as put.io's token is none: it has spaces or is empty.", {
      hint: 'Put the token alone there, on one line.',
    });

  const opened = performance.now();

  async function ask<T>(
    schema: z.ZodType<T>,
    path: string,
    asked: Asked,
    body?: { json: unknown } | { form: Record<string, string> },
  ): Promise<T> {
    const { answer, text } = await answered(path, body);
    const contentType = answer.headers.get('content-type');
    const said = parsed(text);
    if (answer.status >= 400) {
      const error = errorSchema.safeParse(said).data;
      // A proxy's page; put.io itself may be so unwell that a 5xx or a 429 is none of its JSON.
      if (error === undefined && answer.status < 500 && answer.status !== 429)
        throw notPutio(base, answer.status, contentType);
      const { headers, status } = answer;
      const type = harmless(error?.error_type)?.slice(0, 60);
      const message = harmless(error?.error_message);
      const refused = { status, headers, ...(type ? { type } : {}), ...(message ? { message } : {}) };
      throw refusalOf(refused, asked, now());
    }
    const read = schema.safeParse(said);
    if (!read.success) throw notPutio(base, answer.status, contentType);
    return read.data;
  }

  async function answered(
    path: string,
    body: { json: unknown } | { form: Record<string, string> } | undefined,
  ): Promise<{ answer: Response; text: string }> {
    const leftMs = wholeMs - (performance.now() - opened);
    if (leftMs <= 0) throw endless(`put.io has not told all within ${wholeMs / 1000} s.`);
    const limitMs = Math.ceil(Math.min(timeoutMs, leftMs));
    const ends = [AbortSignal.timeout(limitMs), ...(signal === undefined ? [] : [signal])];
    const headers: Record<string, string> = { authorization: `Token ${token}`, accept: 'application/json' };
    if (body !== undefined && 'json' in body) headers['content-type'] = 'application/json';
    try {
      const answer = await fetch(`${base}/v2${path}`, {
        method: body === undefined ? 'GET' : 'POST',
        headers,
        ...(body === undefined
          ? {}
          : { body: 'json' in body ? JSON.stringify(body.json) : new URLSearchParams(body.form) }),
        // Wherever it points, the token does not go there.
        redirect: 'manual',
        signal: AbortSignal.any(ends),
      });
      return { answer, text: await textOf(answer) };
    } catch (error) {
      if (signal?.aborted === true) throw signal.reason;
      if (error instanceof NexusError) throw error;
      throw unreached(base, error, limitMs);
    }
  }

  async function textOf(answer: Response): Promise<string> {
    const pieces: Uint8Array[] = [];
    let length = 0;
    for await (const piece of answer.body ?? []) {
      length += piece.length;
      if (length > longestAnswer) throw notPutio(base, answer.status, 'longer than any of its answers');
      pieces.push(piece);
    }
    return Buffer.concat(pieces).toString('utf8');
  }

  /** A word of put.io's in a sentence of ours. */
  function harmless(text: string | null | undefined): string | undefined {
    return text ? withoutSecrets(text.replaceAll(token, '********')) : undefined;
  }

  return {
    async callback() {
      const { settings } = await ask(settingsSchema, '/account/settings', "read the account's settings");
      return settings.callback_url || undefined;
    },

    async setCallback(url) {
      const json = { callback_url: url ?? null };
      await ask(fieldsSchema, '/account/settings', "change the account's callback", { json });
    },

    async account() {
      const { info } = await ask(accountSchema, '/account/info', 'tell about the account');
      const { username, warnings } = info;
      return {
        username: username ?? undefined,
        callbackHasFailed: warnings?.callback_url_has_failed === true,
      };
    },

    async transfer(id) {
      try {
        const { transfer } = await ask(transferSchema, `/transfers/${id}`, 'tell about a transfer');
        // An answer about nothing says nothing of this one.
        if (transfer['id'] !== id) throw notPutio(base, 200, 'about another transfer');
        return transfer;
      } catch (error) {
        if (error instanceof NexusError && error.code === 'not_found') return undefined;
        throw error;
      }
    },

    async *transfers() {
      const asked = 'list the transfers';
      const query = `?per_page=${perPage}`;
      let page = await ask(transfersSchema, `/transfers/list${query}`, asked);
      const seen = new Set<string>();
      for (;;) {
        for (const one of page.transfers) yield fieldsSchema.safeParse(one).data ?? {};
        const { cursor } = page;
        if (!cursor) return;
        // It would have us here for ever.
        if (seen.has(cursor)) throw endless('put.io answered a page of its transfers twice.');
        seen.add(cursor);
        if (seen.size >= mostPages)
          throw endless(`put.io's list of transfers has more than ${mostPages} pages.`);
        page = await ask(transfersSchema, `/transfers/list/continue${query}`, asked, { form: { cursor } });
      }
    },

    async *events() {
      let before = Number.POSITIVE_INFINITY;
      for (let pages = 0; pages < mostPages; pages++) {
        const from = Number.isFinite(before) ? `&before=${before}` : '';
        const path = `/events/list?per_page=${perPage}${from}`;
        const page = await ask(eventsSchema, path, "list the account's history");
        const events = page.events.flatMap((one) => eventSchema.safeParse(one).data ?? []);
        for (const event of events) yield eventOf(event);
        const last = Math.min(before, ...events.map(({ id }) => id));
        if (page.has_more !== true) return;
        if (last === before) throw endless('put.io answered a page of its history twice.');
        before = last;
      }
      throw endless(`put.io's history has more than ${mostPages} pages.`);
    },
  };
}

function eventOf(event: z.output<typeof eventSchema>): PutioEvent {
  const { id, type, created_at: createdAt } = event;
  return {
    id,
    type,
    createdAt,
    ...(typeof event.transfer_id === 'number' ? { transferId: event.transfer_id } : {}),
    ...(typeof event.transfer_name === 'string' ? { transferName: event.transfer_name } : {}),
    ...(typeof event.file_id === 'number' ? { fileId: event.file_id } : {}),
    ...(typeof event.message === 'string' ? { message: event.message } : {}),
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return undefined;
  }
}
