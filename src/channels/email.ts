import type { Environment } from '../configfile.ts';
import { NexusError } from '../errors.ts';
import type { Notice } from '../alerts.ts';
import { runFor } from './command.ts';
import { gainsNoRights, mailPath, otherMailer, privilegedMailer } from './mailer.ts';
import { bodyOf, cut } from './text.ts';

export interface Email {
  to: string;
  from?: string | undefined;
}

/** Hands a notice to the local sendmail, which queues it. Throws `unavailable` when it does not take it. */
export async function mailNotice(
  { to, from }: Email,
  notice: Notice,
  env: Environment,
  signal: AbortSignal,
): Promise<string> {
  const message = [
    `To: ${to}`,
    ...(from === undefined ? [] : [`From: Nexus <${from}>`]),
    `Subject: ${encodedWords(cut(notice.title, 300))}`,
    `Date: ${new Date(notice.at).toUTCString().replace('GMT', '+0000')}`,
    'Auto-Submitted: auto-generated',
    'MIME-Version: 1.0',
    'Content-Type: text/plain; charset=utf-8',
    'Content-Transfer-Encoding: base64',
    '',
    wrapped(`${notice.title}\n\n${bodyOf(notice)}\n`),
    '',
  ].join('\n');
  const sender = from === undefined ? [] : ['-f', from];
  try {
    await runFor(['sendmail', '-i', ...sender, '--', to], message, { ...env, PATH: mailPath(env) }, signal);
  } catch (error) {
    if (!(error instanceof NexusError)) throw error;
    const mailer = (await gainsNoRights()) ? await privilegedMailer(env) : undefined;
    if (error.code !== 'not_found' && mailer !== undefined)
      throw new NexusError('unavailable', error.message, {
        hint: `${mailer} needs rights of its own, which units of Nexus cannot gain. ${otherMailer}`,
        cause: error,
      });
    if (error.code !== 'not_found') throw error;
    throw new NexusError('unavailable', 'There is no sendmail on this machine.', {
      hint: 'Install one that speaks to your mail server, for example msmtp-mta or nullmailer.',
    });
  }
  const taken = `sendmail took it for ${to}`;
  const mailer = await privilegedMailer(env);
  if (mailer === undefined) return taken;
  return `${taken}, but units of Nexus could not send so: ${mailer} needs rights of its own, which they cannot gain. ${otherMailer}`;
}

/** Base64 in lines that RFC 5322 allows. */
function wrapped(text: string): string {
  return (
    Buffer.from(text)
      .toString('base64')
      .match(/.{1,76}/g) ?? []
  ).join('\n');
}

/** RFC 2047: words of at most 75 characters, each of whole characters. */
function encodedWords(text: string): string {
  const line = text.replace(/[\r\n]+/g, ' ');
  if (/^[\x20-\x7e]*$/.test(line) && line.length < 200) return line;
  const words: string[] = [];
  let word = '';
  for (const character of line) {
    if (Buffer.byteLength(word + character) > 42) {
      words.push(word);
      word = '';
    }
    word += character;
  }
  return [...words, word].map((part) => `=?UTF-8?B?${Buffer.from(part).toString('base64')}?=`).join('\n ');
}
