import { chmod, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { privilegedMailer } from '../../src/channels/mailer.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'nexus-mailer-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
});

const found = () => privilegedMailer({ PATH: `${path.join(directory, 'absent')}:${directory}` });
const program = async (name: string, mode: number) => {
  await writeFile(path.join(directory, name), '');
  await chmod(path.join(directory, name), mode);
};

test('the program with rights of its own is found, beside sendmail too', async () => {
  await program('sendmail', 0o755);
  expect(await found()).toBeUndefined();
  await program('postdrop', 0o2755);
  expect(await found()).toBe(path.join(directory, 'postdrop'));
});

test('one that cannot be looked at is not taken for one that is not there', async () => {
  await symlink('sendmail', path.join(directory, 'sendmail'));
  await expect(found()).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringContaining('ELOOP'),
  });
});
