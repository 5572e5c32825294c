import { messageOf } from '../errors.ts';
import { isObject } from './configfile.ts';
import { oneLine, type Outcome, refused, type TellRequest, unclear } from './outcome.ts';
import { codeOf } from './unreadable.ts';

export interface Hooks {
  /** Up to and with `hooks.path`. */
  url: string;
  token: string;
}

/** A run that OpenClaw cannot begin is refused after 15 s; who has waited for longer was admitted. */
const admissionMs = 20_000;

/** Node's own fetch waits no longer than 300 s for an answer to begin. */
const longestRequestMs = 240_000;

/**
 * Tells an agent by `POST /hooks/agent`. Releases before 2026.8 answer at once and never say how it ended; later ones
 * answer when the run is over. The idempotency key makes a request with the same message one run, as long as the same
 * gateway process lives. Facts from OpenClaw's documentation ("Hooks") and from runs of 2026.7.35 and 2026.9.6.
 */
export async function tellByHooks(hooks: Hooks, request: TellRequest): Promise<Outcome> {
  const { agent, batch, attempt, message, waitSeconds, signal } = request;
  const deadline = Date.now() + admissionMs + waitSeconds * 1000;
  const body = JSON.stringify({
    message,
    name: 'nexus',
    agentId: agent,
    deliver: false,
    ...(waitSeconds > 0 ? { waitForCompletion: true } : {}),
  });
  for (;;) {
    const left = deadline - Date.now();
    const timeout = AbortSignal.timeout(Math.max(1, Math.min(left, request.requestMs ?? longestRequestMs)));
    try {
      const response = await fetch(`${hooks.url}/agent`, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${hooks.token}`,
          'content-type': 'application/json',
          'idempotency-key': attempt === 1 ? batch : `${batch}.r${attempt}`,
        },
        body,
        // Elsewhere than where the token belongs nothing is sent.
        redirect: 'manual',
        signal: AbortSignal.any([timeout, signal]),
      });
      return outcomeOf(response.status, await textOf(response), hooks, waitSeconds > 0);
    } catch (error) {
      if (signal.aborted) return unclear('It was interrupted while OpenClaw worked on it.');
      if (!timeout.aborted) return failureOf(error, hooks);
      // The same request joins the run that is under way.
      if (deadline - Date.now() <= 0) return { state: 'admitted' };
    }
  }
}

const longestAnswer = 64 * 1024;

/** What OpenClaw itself says, as plain text, to who has failed to authenticate too often. */
const throttled = 'Too Many Requests';

async function textOf(response: Response): Promise<string> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of response.body ?? []) {
    pieces.push(piece);
    length += piece.length;
    if (length > longestAnswer) break;
  }
  return Buffer.concat(pieces).toString();
}

function outcomeOf(status: number, text: string, hooks: Hooks, waited: boolean): Outcome {
  const answer = parsed(text);
  if (status === 200 || status === 202) {
    // A proxy may have passed it on and answered something of its own.
    if (answer?.['ok'] !== true)
      return unclear(
        `What answered at ${hooks.url}/agent did not speak as OpenClaw's hooks do: whether OpenClaw took the message is not known.`,
      );
    const { runId, completion } = answer;
    const reference = typeof runId === 'string' ? { reference: runId.slice(0, 200) } : {};
    if (!waited || !isObject(completion)) return { state: 'admitted', ...reference };
    if (completion['status'] === 'ok') return { state: 'done' };
    return unclear(
      completion['status'] === 'skipped'
        ? 'OpenClaw took it and skipped the run.'
        : "The agent's run ended in an error; OpenClaw's log says which.",
    );
  }
  const said = typeof answer?.['error'] === 'string' ? `: ${oneLine(answer['error'])}` : '';
  if (status === 401)
    return refused(
      'OpenClaw refused the token of its hooks. Set notify.hooksToken to hooks.token of the running gateway.',
    );
  if (status === 404)
    return refused(
      `OpenClaw has no hooks at ${hooks.url}. Look at hooks.enabled and hooks.path, and restart its gateway.`,
    );
  const own = answer?.['ok'] === false || (status === 429 && text === throttled);
  const mayBeAProxys = !own && (status === 408 || status === 429);
  if (status >= 300 && status < 500 && !mayBeAProxys)
    return refused(`OpenClaw refused the message (${status})${said}.`);
  // OpenClaw's own errors come before a run begins; a proxy's may come after.
  if (own) return refused(`OpenClaw could not take the message (${status})${said}.`);
  return unclear(`${hooks.url} answered ${status}: whether OpenClaw took the message is not known.`);
}

/** Nothing was sent, by the error's code. */
const unsent =
  /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ENETDOWN|EADDRNOTAVAIL|UND_ERR_CONNECT_TIMEOUT|\w*CERT\w*|ERR_(TLS|SSL)\w*|EPROTO)$/;

function failureOf(error: unknown, hooks: Hooks): Outcome {
  const cause = error instanceof Error ? error.cause : undefined;
  const code = codeOf(cause) ?? codeOf(error);
  const why = code ?? oneLine(messageOf(error));
  if (code !== undefined && unsent.test(code))
    return refused(
      `OpenClaw's gateway cannot be reached at ${hooks.url} (${code}). Start it, or set notify.hooksUrl.`,
    );
  return unclear(
    `The connection to ${hooks.url} broke (${why}): whether OpenClaw took the message is not known.`,
  );
}

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
