import { NexusError } from '../errors.ts';

/** What the service, or the way to it, said instead of an answer. */
export interface Failure {
  /** HTTP status; `undefined` when no answer came. */
  status: number | undefined;
  /** The service's own code (`BlobNotFound`), or the system's (`ECONNREFUSED`); '' when nobody gave one. */
  code: string;
  /** ms to wait, as the service asked. */
  retryAfterMs: number | undefined;
  requestId: string | undefined;
}

/** The code of an answer that did not come from the service. */
const notAzure = 'NOT_AZURE';

/**
 * Whether an answer comes from the service, and not from a login page or a proxy on the way: what the SDKs make of
 * those is anything from a bug to "there are no rows". True of what says more by its status: a gateway's 502 is tried
 * again, and a firewall's 403 is a refusal.
 */
export function isAzure(status: number, header: (name: string) => string | undefined): boolean {
  if (passing.has(status) || status >= 500 || status === 401 || status === 403) return true;
  return header('x-ms-request-id') !== undefined || header('x-ms-version') !== undefined;
}

/** The failure of a request that somebody else answered. */
export function strange(status: number | undefined, cause?: unknown): Error {
  return Object.assign(new Error('not an answer of Azure Storage', { cause }), {
    statusCode: status,
    code: notAzure,
  });
}

/** A failure that another try may not meet. */
const passing = new Set([408, 429, 500, 502, 503, 504]);
const passingCodes = new Set(['ContainerBeingDeleted', 'TableBeingDeleted', 'OperationTimedOut']);

/** Reads an error of the SDKs; `undefined` for anything else, which is a bug. */
export function readFailure(error: unknown): Failure | undefined {
  if (!(error instanceof Error)) return undefined;
  const status = numberAt(error, 'statusCode');
  const header = (name: string): string | undefined => {
    const headers = at(at(error, 'response'), 'headers');
    const get = at(headers, 'get');
    const value: unknown = typeof get === 'function' ? get.call(headers, name) : undefined;
    return typeof value === 'string' ? value : undefined;
  };
  // A batch has its codes nowhere but in `code`, single rows only in `details`, an answer to HEAD only in a header.
  const code =
    textAt(at(error, 'details'), 'errorCode') ??
    textAt(at(at(error, 'details'), 'odataError'), 'code') ??
    header('x-ms-error-code') ??
    textAt(error, 'code') ??
    '';
  const credential = /^(Credential|Authentication|AggregateAuthentication)/.test(error.name);
  const foreign = status !== undefined && at(error, 'response') !== undefined && !isAzure(status, header);
  const known =
    code === notAzure ||
    status !== undefined ||
    credential ||
    error.name === 'RestError' ||
    error.name === 'AbortError';
  if (!known && !/^(E[A-Z_]+|ERR_STREAM_.*|ABORT_ERR)$/.test(code)) return undefined;
  return {
    status: credential ? statusOfToken(error) : status,
    code: credential ? 'CredentialUnavailable' : foreign ? notAzure : code,
    retryAfterMs: waitOf(header('retry-after-ms') ?? header('x-ms-retry-after-ms'), header('retry-after')),
    requestId: header('x-ms-request-id'),
  };
}

/** What kept a token from being got: a service that is busy may give one later, all else is a refusal. */
function statusOfToken(error: Error): number | undefined {
  const errors: unknown = at(error, 'errors');
  const causes: unknown[] = [error, ...(Array.isArray(errors) ? errors : [])];
  const busy = causes.some((cause) => {
    const status = numberAt(cause, 'statusCode');
    return status !== undefined && (status === 408 || status === 429 || status >= 500);
  });
  return busy ? undefined : 401;
}

/** True when another try may go better; an answer that came but broke off is one of those. */
export function mayPass({ status, code }: Failure): boolean {
  if (code === notAzure) return false;
  return status === undefined || status < 300 || passing.has(status) || passingCodes.has(code);
}

/** True when the request cannot have changed anything: nobody took it, or it was turned away at the door. */
export function changedNothing({ status, code }: Failure): boolean {
  return status === 429 || unreachable(code);
}

/** True for what is more likely a wrong name or a service that is off than a moment's trouble. */
export function unreachable(code: string): boolean {
  return ['ENOTFOUND', 'ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH'].includes(code);
}

/** The failure of `what` ("read sessions/inbox/main/x.jsonl"), for its caller. Holds no URL, header or key. */
export function azureError(what: string, failure: Failure): NexusError {
  const { status, code, retryAfterMs, requestId } = failure;
  const said = status === undefined ? 'it makes no sense' : `HTTP ${status}`;
  if (code === notAzure)
    return new NexusError('unavailable', `What answers is not Azure Storage: ${said} to ${what}.`, {
      hint: 'Check `store` in the configuration, and any proxy on the way.',
    });
  const credential = code === 'CredentialUnavailable';
  const words = [status === undefined || credential ? '' : `HTTP ${status}`, code]
    .filter((part) => part !== '')
    .join(' ');
  const told = words === '' ? 'no answer' : words;
  // The SDK's own error holds the request with its credentials.
  const cause = new Error(requestId === undefined ? told : `${told}, request ${requestId}`);
  const facts = {
    cause,
    ...(retryAfterMs === undefined ? {} : { retryAfter: Math.ceil(retryAfterMs / 1000) }),
  };
  if (status === 401 || status === 403)
    return new NexusError('forbidden', `Azure does not allow nexus to ${what} (${told}).`, {
      ...facts,
      hint: hintOf(code),
    });
  if (code === 'InvalidHeaderValue' || code === 'UnsupportedHeader')
    return new NexusError(
      'config',
      `The service does not speak the version of Azure Storage that nexus does (${told}).`,
      {
        ...facts,
        hint: 'Start Azurite with --skipApiVersionCheck, or use a newer one.',
      },
    );
  if (code === 'RequestBodyTooLarge')
    return new NexusError('too_large', `Azure takes less at once than it needs to ${what}.`, {
      ...facts,
      hint: 'Set a smaller chunkBytes.',
    });
  return new NexusError('unavailable', `Azure Storage could not ${what} (${told}).`, {
    ...facts,
    ...(unreachable(code)
      ? {
          hint: 'Check the account in `store`, and that this machine reaches it; then run `nexus store check`.',
        }
      : {}),
  });
}

function hintOf(code: string): string {
  const check = '`nexus store check` says what is missing.';
  if (code === 'CredentialUnavailable')
    return 'Log in with `az login`, give this machine a managed identity, or set store.connectionString.';
  if (code === 'AuthorizationPermissionMismatch')
    return `It needs the roles Storage Blob Data Contributor and Storage Table Data Contributor, or a signature with more permissions; ${check}`;
  return `Check the key or signature in \`store\`, this machine's clock, and that the account lets this network in; ${check}`;
}

function waitOf(ms: string | undefined, seconds: string | undefined): number | undefined {
  if (ms !== undefined && /^\d{1,9}$/.test(ms)) return Number(ms);
  if (seconds === undefined) return undefined;
  if (/^\d{1,6}$/.test(seconds)) return Number(seconds) * 1000;
  const date = Date.parse(seconds);
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}

function at(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined;
}

function textAt(value: unknown, key: string): string | undefined {
  const text = at(value, key);
  return typeof text === 'string' && text !== '' ? text : undefined;
}

function numberAt(value: unknown, key: string): number | undefined {
  const number = at(value, key);
  return typeof number === 'number' ? number : undefined;
}
