import { readFile, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Environment } from '../configfile.ts';
import { diskError, errnoOf, isAbsent } from '../diskerrors.ts';

/** sendmail is beside what is only root's to run, where a user's PATH does not look. */
export function mailPath(env: Environment): string {
  return `${env['PATH'] ?? ''}:/usr/sbin:/usr/lib:/sbin`;
}

/** What Postfix's and nullmailer's sendmail hand the mail to. */
const helpers = ['postdrop', 'nullmailer-queue'];

/**
 * The program with rights of its own (setuid or setgid) that this machine's sendmail is or calls. Without those rights,
 * as under NoNewPrivileges= of systemd, it cannot queue anything. `undefined` where it needs none, as msmtp.
 */
export async function privilegedMailer(env: Environment): Promise<string | undefined> {
  for (const directory of mailPath(env)
    .split(':')
    .filter((one) => path.isAbsolute(one))) {
    const sendmail = await realOf(path.join(directory, 'sendmail'));
    if (sendmail === undefined) continue;
    const programs = [sendmail, ...helpers.map((name) => path.join(path.dirname(sendmail), name))];
    for (const program of programs) if (await hasOwnRights(program)) return program;
    return undefined;
  }
  return undefined;
}

/** This process, and what it starts, can gain no rights. */
export async function gainsNoRights(): Promise<boolean> {
  try {
    return /^NoNewPrivs:\s*1$/m.test(await readFile('/proc/self/status', 'utf8'));
  } catch (error) {
    if (!isAbsent(error)) throw error;
    return false;
  }
}

export const otherMailer =
  'Give the machine a sendmail that needs no rights of its own (msmtp-mta, set up in /etc/msmtprc), or use another channel.';

async function realOf(file: string): Promise<string | undefined> {
  try {
    return await realpath(file);
  } catch (error) {
    // A directory that is closed is passed over by who looks for a program.
    if (!isAbsent(error) && errnoOf(error) !== 'EACCES') throw diskError(error, file);
    return undefined;
  }
}

async function hasOwnRights(file: string): Promise<boolean> {
  try {
    return ((await stat(file)).mode & 0o6000) !== 0;
  } catch (error) {
    if (!isAbsent(error)) throw diskError(error, file);
    return false;
  }
}
