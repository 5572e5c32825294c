import { type MessagePort, parentPort } from 'node:worker_threads';
import { openReader } from './usagereader.ts';
import type { Answered, Sent } from './usagereaders.ts';

// The thread that reads lines while another writes what was read to the index.

function listen(port: MessagePort): void {
  const reading = new Map<number, ReturnType<typeof openReader>>();
  port.on('message', ({ id, before, piece, following }: Sent) => {
    if (before !== undefined) reading.set(id, openReader(before));
    const read = reading.get(id);
    if (following !== 'more') reading.delete(id);
    if (piece !== undefined) port.postMessage({ part: read?.(piece, following) } satisfies Answered);
  });
}

if (parentPort !== null) listen(parentPort);
