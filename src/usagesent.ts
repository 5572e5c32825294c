import type { Part } from './usagereader.ts';
import type { Call } from './usagerecord.ts';

/**
 * A part as one thread sends it to another: calls as columns of numbers and one text, which takes a fraction of what so
 * many objects take.
 */
export interface SentPart extends Omit<Part, 'lines'> {
  lines: Omit<Part['lines'], 'calls'>;
  /** The ids of all entries, one behind the other. */
  entries: string;
  /** Provider and model. */
  models: [string, string][];
  /** Of each call `width` numbers: its model's place, the length of its entry's id, and the rest of it. */
  numbers: Float64Array;
}

const width = 8;

export function packed({ lines, ...part }: Part): SentPart {
  const { calls, ...rest } = lines;
  const places = new Map<string, Map<string, number>>();
  const models: [string, string][] = [];
  const numbers = new Float64Array(calls.length * width);
  let entries = '';
  let at = 0;
  for (const call of calls) {
    let ofProvider = places.get(call.provider);
    if (ofProvider === undefined) places.set(call.provider, (ofProvider = new Map()));
    let place = ofProvider.get(call.model);
    if (place === undefined) {
      ofProvider.set(call.model, (place = models.length));
      models.push([call.provider, call.model]);
    }
    entries += call.entry;
    numbers[at++] = place;
    numbers[at++] = call.entry.length;
    numbers[at++] = call.at;
    numbers[at++] = call.input;
    numbers[at++] = call.output;
    numbers[at++] = call.cacheRead;
    numbers[at++] = call.cacheWrite;
    numbers[at++] = call.cost ?? Number.NaN;
  }
  return { ...part, lines: rest, entries, models, numbers };
}

export function unpacked({ lines, entries, models, numbers, ...part }: SentPart): Part {
  const calls: Call[] = [];
  let read = 0;
  for (let at = 0; at < numbers.length; at += width) {
    const [provider, model] = models[numberAt(at)] ?? ['', ''];
    const begin = read;
    read += numberAt(at + 1);
    const cost = numberAt(at + 7);
    calls.push({
      entry: entries.slice(begin, read),
      at: numberAt(at + 2),
      provider,
      model,
      input: numberAt(at + 3),
      output: numberAt(at + 4),
      cacheRead: numberAt(at + 5),
      cacheWrite: numberAt(at + 6),
      cost: Number.isNaN(cost) ? undefined : cost,
    });
  }
  return { ...part, lines: { ...lines, calls } };

  function numberAt(at: number): number {
    return numbers[at] ?? Number.NaN;
  }
}
