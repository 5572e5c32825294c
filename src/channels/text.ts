import type { Notice } from '../alerts.ts';

/** What a notice says below its title, a fact a line. */
export function bodyOf(notice: Notice): string {
  const { error, atRisk, next, since } = notice;
  return [
    ...(error === undefined ? [] : [`${notice.event === 'recovered' ? 'It was' : 'Error'}: ${error}`]),
    ...(since === undefined ? [] : [`Since: ${since}`]),
    ...(atRisk === undefined ? [] : [`At risk: ${atRisk}`]),
    ...(next === undefined ? [] : [`Next: ${next}`]),
  ].join('\n');
}

export function textOf(notice: Notice): string {
  const body = bodyOf(notice);
  return body === '' ? notice.title : `${notice.title}\n${body}`;
}

/** The object that generic webhooks and commands get. */
export function objectOf(notice: Notice, id: string): object {
  return { schemaVersion: 1, from: 'nexus', id, ...notice, text: textOf(notice) };
}

/** At most so many UTF-16 units, none of them half a character, with a sign that there were more. */
export function cut(text: string, most: number): string {
  if (text.length <= most) return text;
  return `${text.slice(0, most - 1).replace(/[\ud800-\udbff]$/, '')}…`;
}
