import { failedWith, NexusError } from '../errors.ts';

/**
 * A noun over the endpoint's store, as callers may know it: that the endpoint itself may not use its store (an
 * expired credential) is its own trouble, `unavailable`, and not a refusal of the caller's key. Holds for whatever
 * promises and listings its methods answer with.
 */
export function ownStore<Noun extends object>(noun: Noun): Noun {
  return new Proxy(noun, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== 'function') return value;
      return (...given: unknown[]): unknown => {
        const answer: unknown = Reflect.apply(value, target, given);
        if (answer instanceof Promise) return own(answer);
        return isListing(answer) ? each(answer) : answer;
      };
    },
  });
}

async function own(work: Promise<unknown>): Promise<unknown> {
  try {
    return await work;
  } catch (error) {
    throw translated(error);
  }
}

async function* each(items: AsyncIterable<unknown>): AsyncIterable<unknown> {
  try {
    yield* items;
  } catch (error) {
    throw translated(error);
  }
}

function isListing(answer: unknown): answer is AsyncIterable<unknown> {
  return typeof answer === 'object' && answer !== null && Symbol.asyncIterator in answer;
}

function translated(error: unknown): unknown {
  if (!failedWith(error, 'forbidden', 'unauthorized')) return error;
  return new NexusError(
    'unavailable',
    "The endpoint may not use its own store now; its operator's log says why.",
    { cause: error },
  );
}
