import { NexusError } from '../errors.ts';

/** Where an account's tokens are made. */
export const tokensPage = 'https://app.put.io/settings/account/oauth/apps';

/** What put.io said when it did not do what it was asked. */
export interface Refused {
  status: number;
  headers: Headers;
  /** `error_type` and `error_message` of the body, where it is put.io's JSON. */
  type?: string;
  message?: string;
}

/** What was asked, as a sentence goes on: `change the account's callback`. */
export type Asked = string;

/** Each refusal as one sentence, and what to do about it. */
export function refusalOf({ status, headers, type, message }: Refused, asked: Asked, now: Date): NexusError {
  const said = [String(status), type].filter((part) => part !== undefined).join(', ');
  const because = message === undefined ? '' : ` It says ${JSON.stringify(message)}.`;
  if (status === 403 || (status === 401 && /scope/i.test(type ?? '')))
    return new NexusError('forbidden', `put.io does not let this token ${asked} (${said}).${because}`, {
      hint: `Another token may be allowed to: they are made at ${tokensPage}.`,
    });
  if (status === 401)
    return new NexusError('unauthorized', `put.io does not know the token (${said}).`, {
      hint: `Make another at ${tokensPage}, and put it where putio.token says, or into NEXUS_PUTIO_TOKEN.`,
    });
  if (type === 'INVALID_CALLBACK_URL')
    return new NexusError('invalid', `put.io does not take this callback URL (${said}).${because}`, {
      hint: 'It must be a public http or https URL: say with --endpoint-url what services outside call the endpoint by.',
    });
  if (status === 404)
    return new NexusError('not_found', `put.io has nothing there: it was asked to ${asked} (${said}).`, {
      hint: 'Look at `nexus config get putio.apiBase`: it is https://api.put.io, without a path.',
    });
  if (status === 429) {
    const seconds = waitOf(headers, now);
    const until = new Date(now.getTime() + seconds * 1000).toISOString().slice(11, 19);
    return new NexusError('limited', `put.io was asked too often (${said}).`, {
      hint: `It takes requests again at ${until} UTC, in ${seconds} s: run this again then.`,
      retryAfter: seconds,
    });
  }
  if (status >= 500)
    return new NexusError('unavailable', `put.io failed to ${asked} (${said}).${because}`, {
      hint: 'The fault is there: try again in some minutes.',
    });
  return new NexusError('invalid', `put.io refused to ${asked} (${said}).${because}`, {
    hint: 'Look at the account at https://app.put.io/settings.',
  });
}

const longestWait = 86_400;

/** Seconds until it takes requests again, by Retry-After or X-RateLimit-Reset; a minute when it does not say. */
function waitOf(headers: Headers, now: Date): number {
  const ms = now.getTime();
  const after = headers.get('retry-after')?.trim() ?? '';
  const reset = Number(headers.get('x-ratelimit-reset')?.trim() || Number.NaN);
  const seconds = /^\d+$/.test(after)
    ? Number(after)
    : !Number.isNaN(Date.parse(after))
      ? (Date.parse(after) - ms) / 1000
      : reset > 1e11
        ? (reset - ms) / 1000
        : reset > 1e9
          ? reset - ms / 1000
          : reset;
  return Number.isFinite(seconds) ? Math.min(longestWait, Math.max(1, Math.ceil(seconds))) : 60;
}

/** What came in place of put.io's JSON: a proxy's page, a redirect, something cut off. */
export function notPutio(base: string, status: number, contentType: string | null): NexusError {
  const type = contentType?.split(';', 1)[0]?.slice(0, 100) ?? 'of no type';
  return new NexusError('unavailable', `What answers at ${base} is not put.io's API (${status}, ${type}).`, {
    hint: "Look at `nexus config get putio.apiBase`, and at what lies between this machine and put.io: a proxy's login page, for one.",
  });
}

/** Answers that would have us there for ever. */
export function endless(sentence: string): NexusError {
  return new NexusError('unavailable', sentence, {
    hint: 'Run this again; what was found until then is kept.',
  });
}

/** No answer at all. */
export function unreached(base: string, error: unknown, timeoutMs: number): NexusError {
  if (error instanceof Error && error.name === 'TimeoutError')
    return new NexusError('unavailable', `put.io has not answered within ${timeoutMs / 1000} s.`, {
      hint: 'Try again; if that lasts, look at the network of this machine.',
    });
  const code = codeOf(error);
  const { hostname } = new URL(base);
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN')
    return new NexusError('unavailable', `The name ${hostname} cannot be looked up (${code}).`, {
      hint: "Look at this machine's DNS, and at `nexus config get putio.apiBase`.",
    });
  return new NexusError('unavailable', `put.io cannot be reached at ${base} (${code}).`, {
    hint: 'Try again; if that lasts, look at the network and the firewall of this machine.',
  });
}

/** Only the code: the text of such an error may quote the request, with its token. */
function codeOf(error: unknown): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  return cause instanceof Error && 'code' in cause ? String(cause.code) : 'network error';
}
