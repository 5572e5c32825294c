import { NexusError } from '../errors.ts';
import { runCommand } from './command.ts';

/** A user of this machine. */
export interface Account {
  name: string;
  uid: number;
  gid: number;
  /** All of its groups. */
  groups: number[];
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
  const known = await runCommand('id', ['-G', '--', name], { env });
  if (known.status !== 0)
    throw new NexusError('unavailable', `The groups of ${name} cannot be looked up: ${known.stderr.trim()}`);
  const groups = known.stdout.trim().split(' ').map(Number);
  return { name, uid: Number(uid), gid: Number(gid), groups, home };
}

/**
 * Does the work with the rights of that user where this is root, so that what is made is theirs and no link of theirs
 * leads elsewhere: with their groups, or where none are said with the one. Nothing else may run in this process
 * meanwhile.
 */
export async function asAccount<T>(
  account: Pick<Account, 'uid' | 'gid'> & { groups?: number[] },
  work: () => Promise<T>,
): Promise<T> {
  const group = process.getegid?.();
  const groups = process.getgroups?.();
  if (process.geteuid?.() !== 0 || group === undefined || groups === undefined || account.uid === 0)
    return await work();
  process.setgroups?.(account.groups ?? [account.gid]);
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
