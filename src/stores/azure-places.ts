import { NexusError } from '../errors.ts';
import type { Answer, Operation } from './azure-calls.ts';

/** Containers, or tables: made on first need, and never taken for empty when they vanish. */
export interface Places {
  /** True when this process has seen it; asked before a request is sent, for `answered`. */
  known(name: string): boolean;
  /**
   * Takes note of an answer. That it is not there is fine where it was not known when that was asked, and
   * `unavailable` where it was: what has vanished is not empty.
   */
  answered(name: string, refused: string | undefined, wasKnown: boolean): void;
  /** Writes to it; makes it, and writes again, where it is not there yet. */
  write<T, R extends string>(
    name: string,
    operation: Operation,
    request: (signal: AbortSignal) => Promise<T>,
    refusals: readonly R[],
  ): Promise<Answer<T, R>>;
}

export function azurePlaces(
  kind: 'container' | 'table',
  make: (name: string, signal: AbortSignal) => Promise<unknown>,
): Places {
  const seen = new Set<string>();
  const notFound = kind === 'container' ? 'ContainerNotFound' : 'TableNotFound';
  const alreadyThere = kind === 'container' ? 'ContainerAlreadyExists' : 'TableAlreadyExists';

  function answered(name: string, refused: string | undefined, wasKnown: boolean): void {
    if (refused !== notFound) seen.add(name);
    else if (wasKnown)
      throw new NexusError('unavailable', `The ${kind} ${name} was deleted while nexus was using it.`, {
        hint: 'Restore it, or start nexus again to begin with an empty one.',
      });
  }

  return {
    known: (name) => seen.has(name),
    answered,
    async write(name, operation, request, refusals) {
      for (let made = false; ; made = true) {
        const wasKnown = made || seen.has(name);
        const answer = await operation.send(request, [...refusals, notFound]);
        answered(name, answer.refused, wasKnown);
        if (answer.refused !== notFound) return without(answer, refusals);
        await operation.send((signal) => make(name, signal), [alreadyThere]);
      }
    },
  };
}

function without<T, R extends string>(answer: Answer<T, string>, refusals: readonly R[]): Answer<T, R> {
  if (answer.refused === undefined) return { value: answer.value, repeated: answer.repeated };
  const refused = refusals.find((code) => code === answer.refused);
  if (refused === undefined) throw new Error(`${answer.refused} was not asked for`);
  return { refused, repeated: answer.repeated };
}
