const binaryUnits = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** `0 B`, `1.5 KiB`, `12 MiB`. */
export function formatBytes(bytes: number): string {
  let value = Math.abs(bytes);
  let unit = 0;
  // 1023.95 would round up to 1024 of the smaller unit.
  while (value >= (unit === 0 ? 1024 : 1023.5) && unit < binaryUnits.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 9.95 ? value.toFixed(0) : value.toFixed(1);
  return `${bytes < 0 ? '-' : ''}${digits} ${binaryUnits[unit]}`;
}

/** `1,234,567`, whatever the machine's language. */
export function formatCount(count: number): string {
  // Not toLocaleString: a first one takes longer than a command with nothing to do otherwise does.
  return String(count).replace(/\B(?=(?:\d{3})+$)/g, ',');
}

/** A count with its noun: `1 transcript`, `2 transcripts`. */
export function formatItems(count: number, singular: string, plural = `${singular}s`): string {
  return `${formatCount(count)} ${count === 1 ? singular : plural}`;
}

const steps = [
  { unit: 'd', ms: 86_400_000 },
  { unit: 'h', ms: 3_600_000 },
  { unit: 'min', ms: 60_000 },
  { unit: 's', ms: 1000 },
] as const;

/** The two greatest units: `350 ms`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`. */
export function formatDuration(ms: number): string {
  if (ms < 0) return `-${formatDuration(-ms)}`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  const step = ms < 60_000 ? 1000 : ms < 3_600_000 ? 1000 : ms < 86_400_000 ? 60_000 : 3_600_000;
  let rest = Math.round(ms / step) * step;
  const parts: string[] = [];
  for (const { unit, ms } of steps) {
    const count = Math.floor(rest / ms);
    rest -= count * ms;
    if (count > 0) parts.push(`${count} ${unit}`);
    else if (parts.length > 0) break;
  }
  return parts.slice(0, 2).join(' ');
}

/** How long ago, in its greatest unit: `now`, `5 min ago`, `3 d ago`; `in 2 h` for what is yet to come. */
export function formatAge(at: Date | number, now: Date | number): string {
  const ms = Number(now) - Number(at);
  const step = steps.find((one) => Math.abs(ms) >= one.ms);
  if (step === undefined) return 'now';
  const text = `${Math.floor(Math.abs(ms) / step.ms)} ${step.unit}`;
  return ms < 0 ? `in ${text}` : `${text} ago`;
}

// C0 and C1 controls, unpaired surrogates, line and paragraph separators, what turns the direction of text.
const hidden = '\\p{Cc}\\p{Cs}\\u2028\\u2029\\u200e\\u200f\\u061c\\u202a-\\u202e\\u2066-\\u2069\\ufeff';
const hiddenAnywhere = new RegExp(`[${hidden}]`, 'gu');
const hiddenButLayout = new RegExp(`(\\x1b\\[[0-9;]*m)|(?![\\n\\t])[${hidden}]`, 'gu');

/** Text from outside as it may be shown on a terminal: what controls the terminal is written out, `\u{1b}`. */
export function visible(text: string): string {
  return text.replace(hiddenAnywhere, written);
}

/** The same for whole messages: newlines and tabs stay, and colours where some are shown. */
export function visibleLines(text: string, colours = true): string {
  return text.replace(hiddenButLayout, (found, colour: string | undefined) =>
    colour === undefined || !colours ? visible(found) : colour,
  );
}

function written(character: string): string {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}
