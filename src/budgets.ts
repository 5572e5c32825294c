import { createHash } from 'node:crypto';
import type { Alerts, Latched, Notice } from './alerts.ts';
import type { Budget } from './budgetsettings.ts';
import { describe, NexusError } from './errors.ts';
import { formatCount, formatDuration, formatItems, visible } from './format.ts';
import type { Usage } from './usage.ts';
import { quarterMs } from './usagecount.ts';
import { dayLabel, daysIn, monthLabel, weekLabel } from './usagedays.ts';
import type { Sums } from './usagequery.ts';
import type { UsageRequest } from './usagerequest.ts';

/** Percent of a budget at which an alert goes out. */
export const steps = [50, 80, 100] as const;

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
/** The pace says nothing before this part of the period is over, and is taken of its last such part too. */
const paceShare = 1 / 8;
/** So long after its end a period is still watched: what was spent before midnight may be shipped in the morning. */
const lateMs = 36 * hourMs;
/** What a period leaves behind is forgotten so long after that: clocks differ. */
const forgetAfterMs = hourMs;
/** A notice that no channel took for so long after its period interests nobody any more. */
const staleMs = 3 * dayMs;
/** A model without a price is told again this soon at the earliest, whoever has another list of prices. */
const pricedMs = dayMs;
/** So many models without a price are told each by itself in a day; more are told together, once a day. */
const mostUnpriced = 5;
const longestName = 80;
/** Models that nobody uses any more are not told of. */
const pricesOver = '30d';

export interface Watched {
  usage: Pick<Usage, 'query'>;
  /** Of the store, so that whoever else watches it tells no step again. */
  alerts: Alerts;
  budgets: readonly Budget[];
  /** Names of the channels that there are. */
  channels: readonly string[];
  host: string;
  now: Date;
  /** For budgets that name none. */
  timeZone?: string;
  /** Told of each that is raised, also where something else fails. */
  onRaised?: (notice: Notice) => void;
}

/**
 * Raises what is due: the highest step that a budget has reached in the period that runs, or in one that ended lately,
 * once; that its pace would pass it, once a period; and each model without a price, once until it has one. Forgets the
 * steps of periods that are over. Sends nothing. Resolves with what was raised. What fails for one budget keeps none of
 * the others from being watched: the first failure is thrown at the end.
 */
export async function watchSpending(watched: Watched): Promise<Notice[]> {
  const { alerts } = watched;
  const latched = await alerts.list();
  const raised: Notice[] = [];
  const failures: unknown[] = [];
  const raise = async (notice: Notice): Promise<void> => {
    if (latched.some((one) => one.subject === notice.subject)) return;
    if (!(await alerts.raise(notice, watched.channels))) return;
    raised.push(notice);
    watched.onRaised?.(notice);
  };
  for (const budget of watched.budgets)
    try {
      for (const notice of await dueOf(watched, budget, latched)) await raise(notice);
    } catch (error) {
      failures.push(unwatched(budget, error));
    }
  try {
    const unpriced = await unpricedModels(watched, latched);
    for (const notice of unpriced.notices) await raise(notice);
    await alerts.forget(
      latched.filter((one) => isOver(one, watched) || unpriced.isPriced(one)).map(({ subject }) => subject),
    );
  } catch (error) {
    failures.push(error);
  }
  if (failures.length > 0) throw failures[0];
  return raised;
}

function unwatched(budget: Budget, error: unknown): unknown {
  if (!(error instanceof NexusError)) return error;
  return new NexusError(error.code, `The budget "${nameOf(budget)}" cannot be watched: ${describe(error)}`, {
    cause: error,
  });
}

/** What of a budget could be told now, of the period that runs and of those that ended lately. */
async function dueOf(watched: Watched, budget: Budget, latched: readonly Latched[]): Promise<Notice[]> {
  const tz = zoneOf(watched, budget);
  const now = watched.now.getTime();
  const due: Notice[] = [];
  for (
    let period = periodAt(budget.per, tz, now);
    now - period.to < lateMs;
    period = periodAt(budget.per, tz, period.from - 1)
  )
    due.push(...(await dueIn(period, tz, watched, budget, latched)));
  return due;
}

async function dueIn(
  period: Period,
  tz: string,
  watched: Watched,
  budget: Budget,
  latched: readonly Latched[],
): Promise<Notice[]> {
  const { now, usage } = watched;
  const of = (from: number, to: number) =>
    usage.query({ ...filterOf(budget), from: timeOf(from), to: timeOf(to) });
  const { totals, coverage } = await of(period.from, period.to);
  const limit = budget.dollars ?? budget.tokens ?? Number.POSITIVE_INFINITY;
  const spent = spentIn(budget, totals);
  const subject = `budget/${digestOf(budget)}/${period.label}`;
  const about = {
    event: 'warning' as const,
    host: watched.host,
    since: timeOf(period.from),
    at: now.toISOString(),
  };
  const next = `Run \`nexus usage top --from ${dayLabel(localDay(period.from, tz))} --tz ${tz}\` to see what costs most.`;
  const rests = restsOn(budget, totals, coverage.unread);
  const due: Notice[] = [];
  const step = steps.findLast((one) => spent >= (limit * one) / 100);
  // Once 80 % were told, by whomever, 50 % is no news.
  const told = steps.findLast((one) => latched.some((alert) => alert.subject === `${subject}/${one}`));
  if (step !== undefined && step > (told ?? 0))
    due.push({
      ...about,
      subject: `${subject}/${step}`,
      title: `${nameOf(budget)}: ${step < 100 ? `${step} % is` : 'all of it is'} spent in ${period.label}, ${amount(budget, spent)} of ${amount(budget, limit)}.${rests}`,
      next,
    });
  const elapsed = now.getTime() - period.from;
  const whole = period.to - period.from;
  const window = Math.floor((whole * paceShare) / quarterMs) * quarterMs;
  if (spent < limit && elapsed >= whole * paceShare && now.getTime() < period.to) {
    const since = Math.floor((now.getTime() - window) / quarterMs) * quarterMs;
    const lately = spentIn(budget, (await of(Math.max(period.from, since), period.to)).totals);
    // A burst that is over makes the first too high, a quiet night the second: both have to pass it.
    const pace = Math.min(spent / elapsed, lately / (now.getTime() - Math.max(period.from, since)));
    const projected = spent + pace * (period.to - now.getTime());
    if (projected > limit)
      due.push({
        ...about,
        subject: `${subject}/pace`,
        title: `${nameOf(budget)}: at this pace ${period.label} ends at about ${amount(budget, projected)}, over ${amount(budget, limit)}; ${amount(budget, spent)} is spent so far.${rests}`,
        next: `The pace is the lower of two: since ${period.label} began, and of its last ${formatDuration(window)}. ${next}`,
      });
  }
  return due;
}

function filterOf({ agent, model, trigger }: Budget): UsageRequest {
  const list = { agent, model, trigger };
  // In a list, a comma is part of a name.
  return Object.fromEntries(
    Object.entries(list).flatMap(([name, value]) => (value === undefined ? [] : [[name, [value]]])),
  );
}

function spentIn({ dollars }: Budget, { cost, total }: Sums): number {
  return dollars === undefined ? total : (cost ?? 0);
}

/** The same as long as its settings are, and another for every other budget. */
function digestOf({ name, agent, model, trigger, per, dollars, tokens, tz }: Budget): string {
  const settings = [name, agent, model, trigger, per, dollars, tokens, tz];
  const said = JSON.stringify(settings.map((value) => value ?? null));
  return createHash('sha256').update(said).digest('hex').slice(0, 16);
}

/** For people: `main, $50.00 a day`. */
export function nameOf({ name, agent, model, trigger, per, dollars, tokens }: Budget): string {
  const parts = [name, agent, model, trigger].filter((part) => part !== undefined);
  const of = parts.length === 0 ? 'all spending' : parts.join(' ');
  return `${of}, ${dollars === undefined ? `${formatCount(tokens ?? 0)} tokens` : money(dollars)} a ${per}`;
}

function amount({ dollars }: Budget, value: number): string {
  return dollars === undefined ? `${formatCount(Math.round(value))} tokens` : money(value);
}

function money(value: number): string {
  const digits = value !== 0 && Math.abs(value) < 1 ? 4 : 2;
  return `$${value.toLocaleString('en-US', { minimumFractionDigits: 2, maximumFractionDigits: digits })}`;
}

/** What the sum leaves out, so that it is a lower bound. */
function restsOn({ dollars }: Budget, { costCoverage }: Sums, unread: number): string {
  const left = [
    ...(dollars === undefined || costCoverage.unpriced === 0
      ? []
      : [`${formatItems(costCoverage.unpriced, 'call')} without a price`]),
    ...(unread === 0 ? [] : [`${formatItems(unread, 'transcript')} not read yet`]),
  ];
  return left.length === 0 ? '' : ` Not counted: ${left.join(', ')}.`;
}

interface Period {
  /** `2026-11-23`, `2026-W48`, `2026-11`: of one kind, in the order of time. */
  label: string;
  /** ms since 1970. */
  from: number;
  to: number;
}

/** The day, week or month that a time is in. */
export function periodAt(per: Budget['per'], tz: string, at: number): Period {
  const days = daysIn(tz);
  const today = localDay(at, tz);
  const begin = (day: number) => days.begin(dayLabel(day));
  if (per === 'day') return { label: dayLabel(today), from: begin(today), to: begin(today + 1) };
  if (per === 'week') {
    // Days since a Thursday.
    const monday = today - ((((today + 3) % 7) + 7) % 7);
    return { label: weekLabel(today), from: begin(monday), to: begin(monday + 7) };
  }
  const label = monthLabel(today);
  const [year = 0, month = 0] = label.split('-').map(Number);
  const first = (nth: number) => Date.UTC(year, nth, 1) / dayMs;
  return { label, from: begin(first(month - 1)), to: begin(first(month)) };
}

function localDay(at: number, tz: string): number {
  return Math.floor((at + daysIn(tz).offset(at)) / dayMs);
}

function zoneOf({ timeZone }: Pick<Watched, 'timeZone'>, { tz }: Budget): string {
  return tz ?? timeZone ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
}

function timeOf(at: number): string {
  return new Date(at).toISOString();
}

/** A step of a period that is over, once everybody was told of it or nobody will be. */
function isOver({ subject, raised, channels, deliveries }: Latched, watched: Watched): boolean {
  if (!subject.startsWith('budget/')) return false;
  const label = subject.split('/').at(-2) ?? '';
  const per = /^\d{4}-\d\d-\d\d$/.test(label) ? 'day' : label.includes('W') ? 'week' : 'month';
  // Wherever it is still that day, it is not over: no zone is further behind than 12 hours.
  const margin = lateMs + forgetAfterMs + 12 * hourMs;
  if (label >= periodAt(per, 'UTC', watched.now.getTime() - margin).label) return false;
  const stale = watched.now.getTime() - Date.parse(raised.at) > staleMs;
  const sent = channels
    .filter((channel) => watched.channels.includes(channel))
    .every((channel) => deliveries.some((one) => one.channel === channel && one.state === 'sent'));
  return stale || sent;
}

/** Models of which no price is known, among those that were used lately. */
async function unpricedModels(
  { usage, host, now }: Watched,
  latched: readonly Latched[],
): Promise<{ notices: Notice[]; isPriced: (alert: Latched) => boolean }> {
  const { rows, complete } = await usage.query({ by: ['provider', 'model'], last: pricesOver, tz: 'UTC' });
  const about = { event: 'warning' as const, host, at: now.toISOString() };
  const unpriced = rows.flatMap(({ provider = '', model = '', costCoverage }) =>
    costCoverage.unpriced === 0
      ? []
      : [{ provider, model, calls: costCoverage.unpriced, subject: `price/${provider}/${model}` }],
  );
  const isOld = ({ raised }: Latched) => now.getTime() - Date.parse(raised.at) >= pricedMs;
  const fresh = unpriced.filter(({ subject }) => !latched.some((one) => one.subject === subject));
  const told = latched.filter((one) => one.subject.startsWith('price/') && !isOld(one)).length;
  return {
    // Names come from transcripts: whoever invents them must not fill anybody's mailbox.
    notices: told + fresh.length > mostUnpriced ? [several()] : fresh.map(single),
    isPriced: (one) =>
      isOld(one) &&
      (one.subject.startsWith('prices/') ||
        (one.subject.startsWith('price/') &&
          complete &&
          !unpriced.some(({ subject }) => subject === one.subject))),
  };

  function single({ provider, model, calls, subject }: (typeof unpriced)[number]): Notice {
    return {
      ...about,
      subject,
      title: `No price is known of ${visible(model)} (${visible(provider)}): ${callsText(calls)}.`,
      // No command to paste: the names come from transcripts.
      next: `Add its price to the setting \`prices\`, in dollars for a million tokens, like ${JSON.stringify({ model, provider, input: 3, output: 15 })}.`,
    };
  }

  function several(): Notice {
    const calls = fresh.reduce((sum, one) => sum + one.calls, 0);
    const first = fresh.slice(0, mostUnpriced).map(({ model }) => visible(model).slice(0, longestName));
    const names = fresh.length > first.length ? `${first.join(', ')}, …` : first.join(', ');
    return {
      ...about,
      subject: `prices/${dayLabel(localDay(now.getTime(), 'UTC'))}`,
      title: `No price is known of ${formatItems(fresh.length, 'more model')}, ${names}: ${callsText(calls)}.`,
      next: 'Run `nexus usage --by provider,model --last 30d` to see them all, and add their prices to the setting `prices`.',
    };
  }
}

function callsText(calls: number): string {
  return `${formatItems(calls, 'call')} of the last 30 days ${calls === 1 ? 'is' : 'are'} in no cost and no budget`;
}
