/** One sample of an exposition. */
export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

export interface Family {
  name: string;
  type: string;
  help: string;
  samples: Sample[];
}

export interface Exposition {
  families: Map<string, Family>;
  /** The one sample of this name with exactly these labels; `undefined` when there is none. */
  value: (name: string, labels?: Record<string, string>) => number | undefined;
  /** All samples of this name. */
  samples: (name: string) => Sample[];
}

const metricName = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const types = new Set(['counter', 'gauge', 'histogram', 'summary', 'untyped']);
const number = /^[+-]?(\d+(\.\d*)?([eE][+-]?\d+)?|\.\d+|Inf|nan|NaN|Nan)$/;

/**
 * Reads an exposition as strictly as the formats are written down, text 0.0.4 and OpenMetrics 1.0: HELP and TYPE once
 * and before the samples, the samples of a family together, no sample twice, nothing unescaped, histograms whole and
 * cumulative, counters called `_total` and never below 0. Throws for the first thing that is not so.
 */
export function readExposition(text: string, format: 'text' | 'openmetrics' = 'text'): Exposition {
  if (!text.endsWith('\n')) throw new Error('The last line does not end.');
  const lines = text.slice(0, -1).split('\n');
  if (format === 'openmetrics' && lines.pop() !== '# EOF') throw new Error('It does not end in # EOF.');
  const families = new Map<string, Family>();
  const seen = new Set<string>();
  let current: Family | undefined;
  const fail = (line: string, why: string): never => {
    throw new Error(`${why}: ${line}`);
  };
  for (const line of lines) {
    if (line === '') {
      if (format === 'openmetrics') fail(line, 'an empty line');
      continue;
    }
    if (line.startsWith('#')) {
      const [, word, name = '', rest = ''] =
        /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? fail(line, 'no comment of a family');
      if (!metricName.test(name)) fail(line, 'no name');
      if (word === 'HELP') {
        if (families.has(name)) fail(line, 'a family twice, or torn');
        if (/\\(?![\\n"])/.test(rest)) fail(line, 'an escape that is none');
        current = { name, type: '', help: rest, samples: [] };
        families.set(name, current);
      } else {
        if (current?.name !== name) fail(line, 'a type without its help before it');
        if (current?.type !== '' || (current?.samples.length ?? 0) > 0) fail(line, 'a type twice or late');
        if (!types.has(rest)) fail(line, 'no type');
        if (current !== undefined) current.type = rest;
      }
      continue;
    }
    const sample = sampleIn(line);
    if (current === undefined || current.type === '') return fail(line, 'a sample without help and type');
    if (!namesOf(current, format).includes(sample.name))
      fail(line, `a sample of another family than ${current.name}`);
    const key = `${sample.name} ${keyOf(sample.labels)}`;
    if (seen.has(key)) fail(line, 'a sample twice');
    seen.add(key);
    if (current.type === 'counter' && !(sample.value >= 0)) fail(line, 'a counter below 0');
    current.samples.push(sample);
  }
  for (const family of families.values()) {
    if (family.type === '') fail(family.name, 'a family without type');
    if (family.type === 'counter' && format === 'text' && !family.name.endsWith('_total'))
      fail(family.name, 'a counter without _total');
    if (family.type === 'histogram') checkHistogram(family);
  }
  const all = [...families.values()].flatMap(({ samples }) => samples);
  return {
    families,
    samples: (name) => all.filter((one) => one.name === name),
    value: (name, labels = {}) => {
      const wanted = keyOf(labels);
      return all.find((one) => one.name === name && keyOf(one.labels) === wanted)?.value;
    },
  };
}

function namesOf({ name, type }: Family, format: 'text' | 'openmetrics'): string[] {
  if (type === 'histogram') return [`${name}_bucket`, `${name}_sum`, `${name}_count`];
  if (type === 'counter' && format === 'openmetrics') return [`${name}_total`];
  return [name];
}

function sampleIn(line: string): Sample {
  const [, name = '', block, value = ''] = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^]*\})? (\S+)$/.exec(line) ?? [];
  if (name === '') throw new Error(`No sample: ${line}`);
  if (!number.test(value)) throw new Error(`No number: ${line}`);
  return {
    name,
    labels: block === undefined ? {} : labelsIn(block, line),
    value: Number(value.replace('Inf', 'Infinity')),
  };
}

function labelsIn(block: string, line: string): Record<string, string> {
  const labels: [string, string][] = [];
  const pair = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\[\\n"])*)"(,(?=[a-zA-Z_])|(?=\}$))/y;
  pair.lastIndex = 1;
  while (pair.lastIndex < block.length - 1) {
    const [, name = '', value = ''] = pair.exec(block) ?? [];
    if (name === '') throw new Error(`No label: ${line}`);
    if (labels.some(([other]) => other === name)) throw new Error(`A label twice: ${line}`);
    labels.push([
      name,
      value.replace(/\\([\\n"])/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped)),
    ]);
  }
  return Object.fromEntries(labels);
}

function checkHistogram({ name, samples }: Family): void {
  const groups = new Map<string, { buckets: [le: number, count: number][]; sum?: number; count?: number }>();
  for (const sample of samples) {
    const { le, ...labels } = sample.labels;
    const key = keyOf(labels);
    const group = groups.get(key) ?? { buckets: [] };
    groups.set(key, group);
    if (sample.name.endsWith('_bucket')) {
      if (le === undefined) throw new Error(`A bucket of ${name} without le.`);
      group.buckets.push([Number(le.replace('Inf', 'Infinity')), sample.value]);
    } else if (sample.name.endsWith('_sum')) group.sum = sample.value;
    else group.count = sample.value;
  }
  for (const [labels, { buckets, sum, count }] of groups) {
    if (sum === undefined || count === undefined)
      throw new Error(`${name} ${labels} lacks its sum or count.`);
    buckets.forEach(([le, value], index) => {
      const [before, fewer] = buckets[index - 1] ?? [Number.NEGATIVE_INFINITY, 0];
      if (le <= before || value < fewer)
        throw new Error(`The buckets of ${name} ${labels} are not cumulative.`);
    });
    const [last, all] = buckets.at(-1) ?? [];
    if (last !== Number.POSITIVE_INFINITY || all !== count)
      throw new Error(`The last bucket of ${name} ${labels} is not +Inf with its count.`);
  }
}

/** The same for the same labels in any order. */
function keyOf(labels: Record<string, string>): string {
  return JSON.stringify(Object.entries(labels).sort(([one], [other]) => (one < other ? -1 : 1)));
}
