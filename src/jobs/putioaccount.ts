import type { Config } from '../config.ts';
import type { Environment } from '../configfile.ts';
import { NexusError } from '../errors.ts';
import { openPutio, type Putio, type PutioOptions } from '../putio/api.ts';
import { tokensPage } from '../putio/refusal.ts';
import { resolveSecret } from '../secrets.ts';

/** The account that the configuration has a token of; `config` when it has none. */
export async function openAccount(
  { putio }: Config,
  env: Environment,
  options: Pick<PutioOptions, 'signal' | 'timeoutMs' | 'wholeMs' | 'now'>,
): Promise<Putio> {
  if (putio.token === undefined)
    throw new NexusError('config', 'There is no token for put.io.', {
      hint: `Make one at ${tokensPage}, and put it into NEXUS_PUTIO_TOKEN, or its file into the configuration: \`nexus config set putio.token '{"file": "/path"}'\`.`,
    });
  return openPutio({ base: putio.apiBase, token: await resolveSecret(putio.token, env), ...options });
}
