import { NexusError } from '../errors.ts';
import { runCommand } from './command.ts';

/** A user of this machine. */
export interface Account {
  name: string;
  uid: number;
  gid: number;
  home: string;
}

/** By name or uid; `undefined` when there is none. */
export async function findAccount(
  who: string | number,
  env: Record<string, string | undefined>,
): Promise<Account | undefined> {
  const { status, stdout, stderr } = await runCommand('getent', ['passwd', String(who)], { env });
  if (status === 2) return undefined;
  const [name, , uid, gid, , home] = (stdout.split('\n')[0] ?? '').split(':');
  if (status !== 0 || name === undefined || home === undefined)
    throw new NexusError('unavailable', `The user ${who} cannot be looked up: ${stderr.trim()}`);
  return { name, uid: Number(uid), gid: Number(gid), home };
}

/** What the types of Node leave out. */
const posix: Pick<typeof process, 'setgroups'> & {
  initgroups?: (user: string, extraGroup: number) => void;
} = process;

/**
 * Does the work with the rights of that user where this is root, so that what is made is theirs and no link of theirs
 * leads elsewhere: with their groups, or without a name with the one that is said. Nothing else may run in this process
 * meanwhile.
 */
export async function asAccount<T>(
  account: Pick<Account, 'uid' | 'gid'> & { name?: string },
  work: () => Promise<T>,
): Promise<T> {
  const group = process.getegid?.();
  const groups = process.getgroups?.();
  if (process.geteuid?.() !== 0 || group === undefined || groups === undefined || account.uid === 0)
    return await work();
  if (account.name === undefined) process.setgroups?.([account.gid]);
  else posix.initgroups?.(account.name, account.gid);
  try {
    process.setegid?.(account.gid);
    process.seteuid?.(account.uid);
    return await work();
  } finally {
    process.seteuid?.(0);
    process.setegid?.(group);
    process.setgroups?.(groups);
  }
}
