import { execa } from 'execa';
import { expect, test } from 'vitest';
import { asAccount, findAccount } from '../../src/systemd/account.ts';

const isRoot = process.geteuid?.() === 0;

test.skipIf(!isRoot)('work for a user has the groups of that user and none of root', async () => {
  const account = await findAccount('daemon', process.env);
  if (account === undefined) throw new Error('There is no user called daemon.');
  const before = process.getgroups?.();
  // As a root may have them whose session was given some.
  process.setgroups?.([0, 4242]);
  const { stdout } = await execa('id', ['-G', 'daemon']);
  const inside = await asAccount(account, async () => await Promise.resolve(process.getgroups?.()));
  const nameless = await asAccount(
    { uid: 54_321, gid: 54_322 },
    async () => await Promise.resolve([process.geteuid?.(), process.getegid?.(), process.getgroups?.()]),
  );
  const after = process.getgroups?.();
  process.setgroups?.(before ?? []);
  expect(inside).toEqual(stdout.split(' ').map(Number));
  expect(nameless).toEqual([54_321, 54_322, [54_322]]);
  expect(after).toEqual([0, 4242]);
});
