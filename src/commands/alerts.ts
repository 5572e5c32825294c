import { randomUUID } from 'node:crypto';
import type { Latched, Notice } from '../alerts.ts';
import { describeChannel, nameOf } from '../channels/open.ts';
import type { Context, Surroundings } from '../context.ts';
import { describe, exit, exitStatus, NexusError } from '../errors.ts';
import { formatAge } from '../format.ts';
import { type AlertSurroundings, lookAtHostAlerts, sendToAll } from '../jobs/hostalerts.ts';
import { spendingAlerts } from './spendingalerts.ts';

/** Sends one notice through every channel and says what each answered; 3 when one did not take it. */
export async function test(context: Context): Promise<number> {
  const { config, output, now } = context;
  if (config.alerts.channels.length === 0)
    throw new NexusError('config', 'There is no channel that an alert could go to.', {
      hint: 'Add one to `alerts.channels`: `nexus config set alerts.channels \'[{"kind": "email", "to": "root"}]\'`.',
    });
  const at = now().toISOString();
  const notice: Notice = {
    event: 'test',
    host: config.host,
    subject: 'test',
    title: `Nexus on ${config.host}: this is a test.`,
    next: 'Nothing is wrong, and nothing is to be done.',
    at,
  };
  const sent = await sendToAll(context, notice, `${at}.test.${randomUUID()}`);
  const answers = sent.map(({ channel, answer, failure }, n) => {
    const settings = config.alerts.channels[n];
    const kind = settings === undefined ? '' : describeChannel(settings);
    return { channel, kind, ok: answer !== undefined, answer: answer ?? describe(failure) };
  });
  const ok = answers.every((one) => one.ok);
  if (output.json) output.result({ command: 'alerts test', ok, channels: answers, schemaVersion: 1 });
  else
    output.table(
      [{ title: 'channel' }, { title: 'sent' }, { title: 'answer' }],
      answers.map((one) => [one.kind, one.ok ? 'yes' : 'no', one.answer]),
    );
  return ok ? exit.done : exit.someFailed;
}

/** What is latched: alerts that last, and those whose end has not reached everybody. Changes nothing. */
export async function list(context: Context): Promise<void> {
  const { config, output, now } = context;
  const all = [...(await lookAtHostAlerts(context)), ...(await spendingAlerts(context))];
  const names = config.alerts.channels.map(
    (settings) => [nameOf(settings), describeChannel(settings)] as const,
  );
  const known = new Map(names);
  if (output.json) {
    output.result({
      command: 'alerts list',
      ok: true,
      alerts: all,
      channels: Object.fromEntries(known),
      schemaVersion: 1,
    });
    return;
  }
  if (all.length === 0) output.info('No alert was ever raised here.');
  else
    output.table(
      [{ title: 'alert' }, { title: 'state' }, { title: 'since' }, { title: 'told' }, { title: 'what' }],
      all.map((one) => [
        one.subject,
        one.recovered === undefined ? 'lasts' : 'over',
        formatAge(Date.parse(one.raised.at), now()),
        toldOf(one, known),
        (one.recovered ?? one.raised).title,
      ]),
    );
}

/** A column of the list is as wide as its widest; those that did not take it come first. */
const mostTold = 2;

function toldOf({ deliveries, recovered }: Latched, known: Map<string, string>): string {
  const event = recovered === undefined ? 'raised' : 'recovered';
  const told = deliveries
    .filter((one) => one.event === event)
    .sort((one, other) => Number(one.state === 'sent') - Number(other.state === 'sent'))
    .map(({ channel, state, reason }) => {
      const name = known.get(channel) ?? channel;
      return state === 'sent'
        ? name
        : `${name}: ${state === 'sending' ? 'being sent' : (reason ?? 'not yet')}`;
    });
  if (told.length === 0) return 'nobody';
  const more = told.length - mostTold;
  return [...told.slice(0, mostTold), ...(more > 0 ? [`and ${more} more (--json)`] : [])].join(', ');
}

/** What `OnFailure=` starts: tells that a unit has failed. Needs no configuration that is right. */
export async function unitFailed(
  given: Surroundings,
  { unit, user }: { unit: string; user: boolean },
): Promise<number> {
  const { loadLeniently } = await import('../jobs/keptsettings.ts');
  const { unitFailure } = await import('../systemd/failure.ts');
  const { alertOnUnit } = await import('../jobs/unitalerts.ts');
  const { env, output, now } = given;
  const { config, wrong } = await loadLeniently(env, given.configPath, output.logAs);
  const failure = await unitFailure(unit, env, user);
  if (wrong !== undefined && !failure.lines.some((line) => line.includes(wrong))) failure.lines.push(wrong);
  if (wrong !== undefined)
    output.warn(wrong.replaceAll('\n', ' '), { subject: `unit/${unit}`, code: 'config' });
  const around: AlertSurroundings = { config, env, now, warn: output.warn, info: output.info };
  await alertOnUnit(around, unit, failure);
  if (output.json)
    output.result({
      command: 'alerts unit-failed',
      ok: true,
      unit,
      reason: failure.reason,
      schemaVersion: 1,
    });
  if (config.alerts.channels.length === 0)
    output.warn(`${failure.reason} Nobody is told: there is no channel in \`alerts.channels\`.`, {
      subject: `unit/${unit}`,
    });
  return wrong === undefined ? exit.done : exitStatus(new NexusError('config', wrong));
}
