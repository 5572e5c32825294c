import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { toSend } from './senterror.ts';
import { openLocalReader } from './stores/local-reader.ts';
import { type Found, partsOf } from './usageparts.ts';
import { openReader, type Part } from './usagereader.ts';
import type { Answer, Asked, Place } from './usagereaderthread.ts';
import { packed } from './usagesent.ts';

// The thread that reads transcripts while another writes what was read to the index.

interface Reading {
  parts: AsyncGenerator<Found | 'moved', void, undefined>;
  bytes: number;
}

function listen(port: MessagePort, place: Place | undefined): void {
  const lines = new Map<number, ReturnType<typeof openReader>>();
  const readings = new Map<number, Reading>();
  let store: ReturnType<typeof openLocalReader> | undefined;

  async function open({ wanted }: Extract<Asked, { what: 'read' }>): Promise<Reading> {
    if (place === undefined) throw new Error('It has no store to read from.');
    store ??= openLocalReader(place.directory, place.id);
    const from = await store;
    const reading: Reading = {
      bytes: 0,
      parts: partsOf(
        wanted,
        from.open,
        openReader(wanted.before, wanted.agent),
        (bytes) => (reading.bytes += bytes),
      ),
    };
    return reading;
  }

  async function next(asked: Extract<Asked, { what: 'read' | 'go' }>): Promise<Answer> {
    const { id } = asked;
    const reading = asked.what === 'read' ? await open(asked) : readings.get(id);
    if (reading === undefined) throw new Error('It was not asked to read this.');
    readings.set(id, reading);
    reading.bytes = 0;
    const result = await reading.parts.next();
    const value = result.done === true ? undefined : result.value;
    const { bytes } = reading;
    const found = value === undefined || value === 'moved' ? value : { ...value, part: packed(value.part) };
    if (found === undefined || found === 'moved' || found.last) await end(id);
    return { id, found, bytes };
  }

  function piece({ id, start, piece: bytes, following }: Extract<Asked, { what: 'piece' }>): Answer {
    if (start !== undefined) lines.set(id, openReader(start.before, start.agent));
    const part: Part | undefined = lines.get(id)?.(bytes, following);
    if (following !== 'more') lines.delete(id);
    return { id, found: part && { part: packed(part), last: following !== 'more' }, bytes: bytes.length };
  }

  async function end(id: number): Promise<void> {
    lines.delete(id);
    const reading = readings.get(id);
    readings.delete(id);
    await reading?.parts.return();
  }

  async function close(): Promise<void> {
    for (const id of readings.keys()) await end(id);
    port.close();
    // One that could not be opened has failed those who asked.
    await (await store?.catch(() => undefined))?.close();
  }

  async function answerTo(asked: Exclude<Asked, { what: 'end' | 'close' }>): Promise<void> {
    let answer: Answer;
    try {
      answer = asked.what === 'piece' ? piece(asked) : await next(asked);
    } catch (error) {
      await end(asked.id);
      answer = { id: asked.id, found: undefined, bytes: 0, error: toSend(error) };
    }
    port.postMessage(answer);
  }

  // What none of these expects ends the thread, which is told to those who wait.
  port.on('message', (asked: Asked) => {
    if (asked.what === 'close') void close();
    else if (asked.what === 'end') void end(asked.id);
    else void answerTo(asked);
  });
}

if (parentPort !== null) listen(parentPort, workerData);
