import { randomUUID } from 'node:crypto';
import type { BlobDownloadResponseParsed } from '@azure/storage-blob';
import { NexusError } from '../errors.ts';
import type { Account, AzureOptions } from './azure-account.ts';
import { type Calls, cutShort, type Operation } from './azure-calls.ts';
import { azurePlaces } from './azure-places.ts';
import { type BlobStat, type Store, checkBody, checkName, checkPrefix, grows } from './store.ts';

export type Blobs = Pick<Store, 'id' | 'create' | 'append' | 'open' | 'stat' | 'list' | 'remove'>;

/** The service's own limit of appends to one blob. */
const serviceBlocks = 50_000;
const pieceBytes = 4 * 1024 * 1024;
const pageSize = 5000;

/** How long an id that was read is taken for true, ms: it is asked for at each request to the endpoint. */
const idFreshMs = 10_000;
const idPlace = { container: 'sessions', name: '.nexus/id' };

const absences = ['BlobNotFound', 'ContainerNotFound'] as const;
const exists = ['BlobAlreadyExists', 'ConditionNotMet'] as const;
const misplacements = [
  'AppendPositionConditionNotMet',
  'BlobNotFound',
  'BlockCountExceedsLimit',
  'InvalidBlobType',
] as const;

/** What is known of a blob from one look at it. `made` tells it from another of the same name. */
interface Look {
  length: number;
  made: string;
  blocks: number;
}

/**
 * Names in `inbox/` as append blobs, which are absent until they have bytes; all others as block blobs of one upload.
 * Each blob carries a random mark of its making: it tells a conflict with another from the echo of our own request,
 * and one blob from the next of its name.
 *
 * The store's id is a blob in the container `sessions` whose name no other can have, so that it goes where the
 * transcripts go.
 */
export function azureBlobs(
  account: Account,
  calls: Calls,
  { maxBlocks = serviceBlocks, onlyLook = false }: Pick<AzureOptions, 'maxBlocks' | 'onlyLook'>,
): Blobs {
  const containers = azurePlaces('container', (name, signal) =>
    account.container(name).create({ abortSignal: signal }),
  );
  let id: { value: string; readAt: number } | undefined;
  let reading: Promise<string> | undefined;

  function place(name: string) {
    const slash = name.indexOf('/');
    const container = name.slice(0, slash);
    return { container, client: account.container(container).getBlobClient(name.slice(slash + 1)) };
  }

  async function look(operation: Operation, name: string): Promise<Look | undefined> {
    const { container, client } = place(name);
    const known = containers.known(container);
    const answer = await operation.send((signal) => client.getProperties({ abortSignal: signal }), absences);
    containers.answered(container, answer.refused, known);
    if (answer.refused !== undefined) return undefined;
    const { contentLength: length = 0, blobCommittedBlockCount: blocks = 0 } = answer.value;
    if (length === 0 && grows(name)) return undefined;
    return { length, made: markOf(answer.value), blocks };
  }

  async function upload(operation: Operation, name: string, body: Uint8Array): Promise<boolean> {
    const { container, client } = place(name);
    const mark = randomUUID();
    const answer = await containers.write(
      container,
      operation,
      (signal) =>
        client.getBlockBlobClient().upload(body, body.length, {
          abortSignal: signal,
          conditions: { ifNoneMatch: '*' },
          metadata: { nexus: mark },
        }),
      exists,
    );
    if (answer.refused === undefined) return true;
    return answer.repeated && (await look(operation, name))?.made === mark;
  }

  /** An append blob without bytes, where there is no blob yet. */
  async function begin(operation: Operation, name: string): Promise<void> {
    const { container, client } = place(name);
    await containers.write(
      container,
      operation,
      (signal) =>
        client.getAppendBlobClient().create({
          abortSignal: signal,
          conditions: { ifNoneMatch: '*' },
          metadata: { nexus: randomUUID() },
          blobHTTPHeaders: { blobContentType: 'application/x-ndjson' },
        }),
      exists,
    );
  }

  /** The bytes [from, to) of a blob, at most; `undefined` when it ends before `from` or is absent. */
  async function fetch(
    operation: Operation,
    name: string,
    from: number,
    to: number,
  ): Promise<{ bytes: Buffer; total: number; made: string } | undefined> {
    const { container, client } = place(name);
    const known = containers.known(container);
    const answer = await operation.send(
      async (signal) => {
        const response = await client.download(from, to - from, { abortSignal: signal, maxRetryRequests: 0 });
        const total = Number(/\/(\d+)$/.exec(response.contentRange ?? '')?.[1] ?? Number.NaN);
        const bytes = await bodyOf(response);
        if (bytes.length !== Math.min(to, total) - from) throw cutShort(undefined);
        return { bytes, total, made: markOf(response) };
      },
      [...absences, 'InvalidRange'],
    );
    containers.answered(container, answer.refused, known);
    return answer.value;
  }

  /** True when the bytes of an append whose answer was lost are where they were sent. */
  async function arrived(
    operation: Operation,
    name: string,
    offset: number,
    body: Uint8Array,
  ): Promise<boolean> {
    for (let at = 0; at < body.length; at += pieceBytes) {
      const sent = body.subarray(at, at + pieceBytes);
      const there = await fetch(operation, name, offset + at, offset + at + sent.length);
      if (there === undefined || !there.bytes.equals(sent)) return false;
    }
    return true;
  }

  async function appendNow(
    operation: Operation,
    name: string,
    offset: number,
    body: Uint8Array,
  ): Promise<number> {
    const { container, client } = place(name);
    for (let begun = false; ; ) {
      if (maxBlocks < serviceBlocks) {
        const before = await look(operation, name);
        if (before !== undefined && before.length === offset && before.blocks >= maxBlocks)
          throw full(name, before);
      }
      if (offset === 0 && !begun) {
        await begin(operation, name);
        begun = true;
      }
      const known = containers.known(container);
      const answer = await operation.send(
        (signal) =>
          client.getAppendBlobClient().appendBlock(body, body.length, {
            abortSignal: signal,
            conditions: { appendPosition: offset },
          }),
        [...misplacements, 'ContainerNotFound'],
      );
      if (answer.refused === undefined) return offset + body.length;
      containers.answered(container, answer.refused, known);
      const there = await look(operation, name);
      const length = there?.length ?? 0;
      if (answer.repeated && length >= offset + body.length && (await arrived(operation, name, offset, body)))
        return offset + body.length;
      if (answer.refused === 'InvalidBlobType')
        throw new NexusError('invalid', `${name} was not made by nexus: it is a blob that cannot grow.`);
      if (length !== offset) throw misplaced(name, offset, length);
      if (answer.refused === 'BlockCountExceedsLimit') throw full(name, there);
      // It was removed in between, or made by a racer who has not appended yet.
      begun = false;
      await operation.again();
    }
  }

  /** Why there was nothing to read: true when [from, to) is empty or at the very end, false when it is no longer so. */
  async function endsAt(operation: Operation, name: string, from: number, to: number): Promise<boolean> {
    const there = await look(operation, name);
    if (there === undefined) throw new NexusError('not_found', `${name} is not stored.`);
    const { length } = there;
    if (!Number.isSafeInteger(from) || from < 0 || from > length)
      throw new NexusError('range', `${name} has ${length} bytes; there is no byte ${from}.`, { length });
    return from === length || to <= from;
  }

  async function readId(operation: Operation): Promise<string | undefined> {
    const there = await fetch(operation, `${idPlace.container}/${idPlace.name}`, 0, 100);
    const text = there?.bytes.toString();
    if (text !== undefined && !/^[0-9a-f-]{36}$/.test(text))
      throw new NexusError(
        'corrupt',
        `The blob ${idPlace.name} in ${idPlace.container} does not hold an id.`,
      );
    return text;
  }

  async function freshId(): Promise<string> {
    const value = await calls.during('read the id of the store', async (operation) => {
      const known = await readId(operation);
      if (known !== undefined) return known;
      if (onlyLook) throw new NexusError('not_found', 'Nothing is stored there yet.');
      await upload(operation, `${idPlace.container}/${idPlace.name}`, Buffer.from(randomUUID()));
      return await readId(operation);
    });
    if (value === undefined)
      throw new NexusError('unavailable', 'The id of the store vanished as it was made.');
    if (id !== undefined && id.value !== value)
      throw new NexusError('unavailable', 'The store was replaced while it was open.', {
        hint: 'Start nexus again.',
      });
    id = { value, readAt: performance.now() };
    return value;
  }

  return {
    async id() {
      if (id !== undefined && performance.now() - id.readAt < idFreshMs) return id.value;
      reading ??= freshId().finally(() => {
        reading = undefined;
      });
      return await reading;
    },

    async create(name, body) {
      checkBody(name, body, 'create');
      if (!(await calls.during(`store ${name}`, (operation) => upload(operation, name, body))))
        throw new NexusError('conflict', `${name} is stored already.`);
    },

    async append(name, offset, body) {
      checkBody(name, body, 'append');
      return await calls.during(`append to ${name}`, async (operation) => {
        if (body.length > 0 && Number.isSafeInteger(offset) && offset >= 0)
          return await appendNow(operation, name, offset, body);
        const length = (await look(operation, name))?.length ?? 0;
        if (length !== offset) throw misplaced(name, offset, length);
        return length;
      });
    },

    async *open(name, from = 0, to = Number.POSITIVE_INFINITY) {
      checkName(name);
      const what = `read ${name}`;
      let made: string | undefined;
      let end = to;
      let position = from;
      do {
        const until = Math.min(position + pieceBytes, end);
        const wanted = Number.isSafeInteger(position) && position >= 0 && until > position;
        const got = wanted
          ? await calls.during(what, (operation) => fetch(operation, name, position, until))
          : undefined;
        if (made === undefined) {
          if (got === undefined) {
            if (await calls.during(what, (operation) => endsAt(operation, name, from, to))) return;
            continue; // it has grown since
          }
          made = got.made;
          end = Math.min(end, got.total);
        }
        if (got === undefined || got.made !== made || got.total < end)
          throw new NexusError('unavailable', `${name} was removed or replaced while it was read.`, {
            hint: 'Read it again.',
          });
        position += got.bytes.length;
        if (got.bytes.length > 0) yield got.bytes;
      } while (position < end);
    },

    async stat(name) {
      checkName(name);
      const there = await calls.during(`look at ${name}`, (operation) => look(operation, name));
      return there === undefined ? undefined : { name, length: there.length };
    },

    async *list(prefix) {
      checkPrefix(prefix);
      const slash = prefix.indexOf('/');
      const container = prefix.slice(0, slash);
      const below = prefix.slice(slash + 1);
      const client = account.container(container);
      let token: string | undefined;
      do {
        const known = containers.known(container);
        const answer = await calls.during(`list ${prefix}`, (operation) =>
          operation.send(
            async (signal) => {
              const pages = client.listBlobsFlat({ prefix: below, abortSignal: signal });
              const page = await pages
                .byPage({
                  maxPageSize: pageSize,
                  ...(token === undefined ? {} : { continuationToken: token }),
                })
                .next();
              if (page.done === true) return { blobs: [], next: undefined };
              const { segment, continuationToken } = page.value;
              return { blobs: segment.blobItems, next: continuationToken };
            },
            ['ContainerNotFound'],
          ),
        );
        containers.answered(container, answer.refused, known);
        if (answer.refused !== undefined) return;
        for (const { name, properties } of answer.value.blobs) {
          const found: BlobStat = { name: `${container}/${name}`, length: properties.contentLength ?? 0 };
          if (isOurs(found)) yield found;
        }
        token = answer.value.next === '' ? undefined : answer.value.next;
      } while (token !== undefined);
    },

    async remove(name) {
      checkName(name);
      const { container, client } = place(name);
      await calls.during(`remove ${name}`, async (operation) => {
        const known = containers.known(container);
        const answer = await operation.send(
          (signal) => client.delete({ abortSignal: signal, deleteSnapshots: 'include' }),
          absences,
        );
        containers.answered(container, answer.refused, known);
      });
    },
  };
}

/** What tells a blob from the next of its name: our mark, or for a blob of others the time it was made. */
function markOf(response: { metadata?: Record<string, string>; createdOn?: Date }): string {
  return response.metadata?.['nexus'] ?? response.createdOn?.toISOString() ?? '';
}

/** False for the store's id, for what an interrupted append has begun, and for what no nexus has put there. */
function isOurs({ name, length }: BlobStat): boolean {
  if (length === 0 && grows(name)) return false;
  try {
    checkName(name);
    return true;
  } catch {
    return false;
  }
}

async function bodyOf({ readableStreamBody }: BlobDownloadResponseParsed): Promise<Buffer> {
  const pieces: Buffer[] = [];
  try {
    for await (const piece of readableStreamBody ?? []) pieces.push(Buffer.from(piece));
  } catch (error) {
    throw cutShort(error);
  }
  return Buffer.concat(pieces);
}

function misplaced(name: string, offset: number, length: number): NexusError {
  return new NexusError('conflict', `${name} has ${length} bytes, not ${offset}.`, { length });
}

function full(name: string, there: Look | undefined): NexusError {
  return new NexusError('full', `${name} was appended to as often as Azure allows.`, {
    length: there?.length ?? 0,
    hint: 'It goes on under another name.',
  });
}
