import { Readable } from 'node:stream';

/**
 * A stream over pieces, read as fast as its reader takes them. Resolves once the first piece is there, so that a
 * failure to open rejects; what it reads from is told to stop when the reader goes away.
 */
export async function streamOf(pieces: AsyncIterable<Uint8Array>): Promise<Readable> {
  const source = pieces[Symbol.asyncIterator]();
  let next: Promise<IteratorResult<Uint8Array>> | undefined = Promise.resolve(await source.next());
  return new Readable({
    highWaterMark: 0,
    read() {
      const piece = next ?? source.next();
      next = undefined;
      piece.then(
        ({ done, value }) => this.push(done === true ? null : value),
        (error: unknown) => this.destroy(error instanceof Error ? error : new Error(String(error))),
      );
    },
    destroy(error, done) {
      Promise.resolve(source.return?.()).then(
        () => done(error),
        () => done(error),
      );
    },
  });
}
