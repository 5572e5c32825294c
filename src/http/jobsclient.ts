import { NexusError } from '../errors.ts';
import type { JobReport } from '../jobreports.ts';
import { checkKey, readEndpoint } from './endpoint.ts';
import { headers } from './wire.ts';

export interface JobsClientOptions {
  endpoint: string;
  key: string | undefined;
  version: string;
  timeoutMs: number;
}

/**
 * Tells an endpoint how a job ended, once: the next run tells more. `not_found` from an endpoint of a version that
 * does not want to know; `unavailable` where none answers in time.
 */
export async function tellEndpoint(
  { endpoint, key, version, timeoutMs }: JobsClientOptions,
  host: string,
  report: JobReport,
  sentAt: number,
): Promise<void> {
  const { base } = readEndpoint(endpoint);
  checkKey(key);
  let response: Response;
  try {
    response = await fetch(`${base}/api/jobs/${encodeURIComponent(host)}`, {
      method: 'PUT',
      headers: {
        'user-agent': `nexus/${version}`,
        'content-type': 'application/json',
        ...(key === undefined ? {} : { [headers.key]: key }),
      },
      body: JSON.stringify({ ...report, sentAt }),
      // A redirect followed would carry the key to somebody else.
      redirect: 'manual',
      signal: AbortSignal.timeout(timeoutMs),
    });
    await response.body?.cancel();
  } catch (error) {
    throw new NexusError('unavailable', `The endpoint ${base} does not answer.`, { cause: error });
  }
  const { status } = response;
  if (response.ok) return;
  if (status === 404 || status === 405)
    throw new NexusError('not_found', `The endpoint ${base} has no such route.`);
  if (status === 401 || status === 403)
    throw new NexusError(
      status === 401 ? 'unauthorized' : 'forbidden',
      `The endpoint ${base} does not take it from this key (HTTP ${status}): it needs the scope upload or pull.`,
    );
  if (status === 409)
    throw new NexusError(
      'conflict',
      `At the endpoint ${base} another key has told of ${JSON.stringify(host)}: give this machine a \`host\` of its own, or a key that is good for all agents.`,
    );
  throw new NexusError('unavailable', `The endpoint ${base} answers HTTP ${status}.`);
}
