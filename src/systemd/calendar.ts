/**
 * The longest pause between two times of an `OnCalendar=`, ms, as systemd writes it out (systemd.time(7)):
 * `*-*-* *:00/5:00`, `Mon..Fri *-*-01..07,10 09:02/30:00 Europe/Paris`. `undefined` for what comes once or is not
 * understood.
 */
export function longestPause(calendar: string): number | undefined {
  const form =
    /^(?:([A-Z][A-Za-z.,]*) )?([^\s~-]+)-([^\s~-]+)([-~])(\S+) ([^\s:]+):([^\s:]+):([^\s:]+)(?: \S+)?$/;
  const [, weekdays, year, month = '', sign, day = '', ...time] = form.exec(calendar) ?? [];
  const [hours, minutes, seconds] = [23, 59, 59].map((most, index) => valuesOf(time[index] ?? '', 0, most));
  const [months, days, weekly] = [valuesOf(month, 1, 12), valuesOf(day, 1, 31), weekdaysOf(weekdays)];
  if (year !== '*' || !hours || !minutes || !seconds || !months || !days || !weekly) return undefined;
  const inDay = hours.flatMap((h) => minutes.flatMap((m) => seconds.map((s) => (h * 60 + m) * 60 + s)));
  const dates: number[] = [];
  for (let date = firstDay; date < firstDay + daysLooked; date++) {
    const at = new Date(date * dayMs);
    const last = new Date(Date.UTC(at.getUTCFullYear(), at.getUTCMonth() + 1, 0)).getUTCDate();
    const number = sign === '~' ? last - at.getUTCDate() + 1 : at.getUTCDate();
    if (months.includes(at.getUTCMonth() + 1) && days.includes(number) && weekly.includes(at.getUTCDay()))
      dates.push(date);
  }
  const [first, last] = [inDay[0], inDay.at(-1)];
  if (first === undefined || last === undefined || dates.length < 2) return undefined;
  return Math.max(widest(inDay) * 1000, widest(dates) * dayMs - (last - first) * 1000);
}

const dayMs = 86_400_000;
/** Of any year: what is looked at holds a leap year and each weekday on each date. */
const firstDay = Date.UTC(2024, 0, 1) / dayMs;
const daysLooked = 11 * 366;

function widest(ascending: number[]): number {
  return ascending.reduce((most, one, index) => Math.max(most, one - (ascending[index - 1] ?? one)), 0);
}

/** `*`, `5`, `00/5`, `01..07`, `9..17/2`, several with commas. */
function valuesOf(text: string, least: number, most: number): number[] | undefined {
  if (text === '*') text = `${least}/1`;
  const found = new Set<number>();
  for (const part of text.split(',')) {
    const [, from, to, step] =
      /^(\d+)(?:\.0+)?(?:\.\.(\d+)(?:\.0+)?)?(?:\/(\d+)(?:\.0+)?)?$/.exec(part) ?? [];
    if (from === undefined || step === '0') return undefined;
    const end = to === undefined ? (step === undefined ? Number(from) : most) : Number(to);
    for (let value = Number(from); value <= Math.min(end, most); value += Number(step ?? 1)) found.add(value);
  }
  return [...found].sort((a, b) => a - b);
}

const names = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];

/** `Mon`, `Mon..Fri`, `Mon,Wed..Fri`; all seven where nothing is said. 0 is Sunday. */
function weekdaysOf(text: string | undefined): number[] | undefined {
  if (text === undefined) return names.map((_, index) => index);
  const found: number[] = [];
  for (const part of text.split(',')) {
    const [from = -1, to = from] = part.split('..').map((name) => names.indexOf(name));
    if (from < 0 || to < 0) return undefined;
    for (let day = from; ; day = (day + 1) % 7) {
      found.push(day);
      if (day === to) break;
    }
  }
  return found;
}

const units: Record<string, number> = {
  us: 0.001,
  ms: 1,
  s: 1000,
  min: 60_000,
  h: 3_600_000,
  d: dayMs,
  w: 7 * dayMs,
  month: 30.4375 * dayMs,
  y: 365.25 * dayMs,
};

/** ms of `1h 30min` or `51.469001s`; `undefined` for `infinity`, and for what is none. */
export function spanMs(text: string | undefined): number | undefined {
  if (text === '0') return 0;
  let sum = 0;
  for (const part of (text ?? '').split(' ')) {
    const [, count, unit = ''] = /^(\d+(?:\.\d+)?)([a-z]+)$/.exec(part) ?? [];
    const ms = units[unit];
    if (count === undefined || ms === undefined) return undefined;
    sum += Number(count) * ms;
  }
  return sum;
}

/** ms since 1970 of `Mon 2026-11-23 13:37:47 UTC`; `undefined` for nothing and `n/a`. */
export function stampMs(text: string | undefined): number | undefined {
  const [, date, time] = /(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?) UTC$/.exec(text ?? '') ?? [];
  return date === undefined ? undefined : Date.parse(`${date}T${time}Z`);
}
