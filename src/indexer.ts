import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import type { Config } from './config.ts';
import { openOwnUsage } from './open.ts';
import { toSend } from './senterror.ts';
import type { Usage } from './usage.ts';
import type { Asked, Told } from './commands/usagethread.ts';

// The thread in which `nexus serve` reads transcripts and sums: neither may keep a request waiting.

/** Opened by the first that asks; one that cannot be opened is tried again by the next. */
let opened: Promise<Usage> | undefined;

async function answerTo({ method, given }: Asked, config: Config): Promise<unknown> {
  if (method === 'close') {
    stop.abort();
    await (await opened)?.close();
    return undefined;
  }
  opened ??= openOwnUsage(config).catch((error: unknown) => {
    opened = undefined;
    throw error;
  });
  const usage = await opened;
  if (method === 'catchUp' || method === 'rebuild') return await usage[method]({ signal: stop.signal });
  const call: (...given: never[]) => Promise<unknown> = usage[method];
  const value: unknown = Reflect.apply(call, usage, given);
  return await value;
}

const stop = new AbortController();

function listen(port: MessagePort, config: Config): void {
  port.on('message', (asked: Asked) => {
    answerTo(asked, config).then(
      (value) => {
        port.postMessage({ id: asked.id, value } satisfies Told);
        if (asked.method === 'close') port.close();
      },
      (error: unknown) =>
        port.postMessage({ id: asked.id, value: undefined, error: toSend(error) } satisfies Told),
    );
  });
}

if (parentPort !== null) listen(parentPort, workerData);
