import { failedWith, NexusError } from '../errors.ts';
import type { Nexus } from '../nexus.ts';

/**
 * The archive as callers may know it: that the endpoint itself may not use its store (an expired credential) is its
 * own trouble, `unavailable`, and not a refusal of the caller's key.
 */
export function ownStore(sessions: Nexus): Nexus {
  function translated(error: unknown): unknown {
    if (!failedWith(error, 'forbidden', 'unauthorized')) return error;
    return new NexusError(
      'unavailable',
      "The endpoint may not use its own store now; its operator's log says why.",
      {
        cause: error,
      },
    );
  }
  async function own<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      throw translated(error);
    }
  }
  async function* each<T>(items: AsyncIterable<T>): AsyncIterable<T> {
    try {
      yield* items;
    } catch (error) {
      throw translated(error);
    }
  }
  return {
    storeId: () => own(sessions.storeId()),
    stat: (...given) => own(sessions.stat(...given)),
    append: (...given) => own(sessions.append(...given)),
    mark: (...given) => own(sessions.mark(...given)),
    setMark: (...given) => own(sessions.setMark(...given)),
    read: (...given) => each(sessions.read(...given)),
    list: (...given) => each(sessions.list(...given)),
    close: () => sessions.close(),
  };
}
