import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { diskError } from '../../src/diskerrors.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import { bytes, codeOf, collect, failure, read, text } from './outcomes.ts';

describe('an error of the disk', () => {
  const failed = (code: string): Error =>
    Object.assign(new Error(`${code}: it failed`), { code, errno: -1, syscall: 'write' });
  const failedSqlite = (errcode: number): Error =>
    Object.assign(new Error('it failed'), { code: 'ERR_SQLITE_ERROR', errcode });

  test('is unavailable and names the path and what to do', () => {
    for (const code of ['ENOSPC', 'EDQUOT', 'EACCES', 'EROFS', 'EIO', 'EMFILE'])
      expect(diskError(failed(code), '/data/x')).toMatchObject({
        code: 'unavailable',
        message: expect.stringContaining('/data/x'),
        hint: expect.stringMatching(/\w/),
      });
    for (const code of [13, 10 | (3 << 8), 8, 14, 5]) // FULL, IOERR_WRITE, READONLY, CANTOPEN, BUSY
      expect(diskError(failedSqlite(code), '/data/x')).toMatchObject({ code: 'unavailable' });
  });

  test('of damaged bytes is corrupt', () => {
    for (const code of [11, 26])
      expect(diskError(failedSqlite(code), '/data/x')).toMatchObject({ code: 'corrupt' });
  });

  test('that is none stays as it is', () => {
    for (const bug of [new TypeError('x'), failedSqlite(1), 'text'])
      expect(diskError(bug, '/data/x')).toBe(bug);
  });

  describe.skipIf(process.getuid?.() !== 0 || process.platform !== 'linux')(
    'on a small file system (needs root)',
    () => {
      let mount: string;
      beforeEach(async () => {
        mount = await mkdtemp(join(tmpdir(), 'nexus-small-'));
        execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m,mode=700', 'tmpfs', mount]);
      });
      afterEach(async () => {
        execFileSync('umount', ['-l', mount]);
        await rm(mount, { recursive: true });
      });

      test('says of a full one that it is full, whatever SQLite calls it', async () => {
        expect(diskError(failedSqlite(10 | (19 << 8)), join(mount, 'x.sqlite'))).toMatchObject({
          hint: expect.stringContaining('dmesg'),
        });
        await writeFile(join(mount, 'ballast'), Buffer.alloc(2 * 1024 * 1024)).catch(() => undefined);
        for (const code of [10 | (19 << 8), 14]) // IOERR_SHMSIZE, CANTOPEN
          expect(diskError(failedSqlite(code), join(mount, 'x.sqlite'))).toMatchObject({
            code: 'unavailable',
            message: expect.stringContaining('no space is left'),
            hint: expect.stringContaining('Free space'),
          });
      });

      test('leaves a full one as it was, and it takes more when there is space again', async () => {
        const log = 'sessions/inbox/main/one.jsonl';
        const store = await openLocalStore(mount);
        try {
          await store.append(log, 0, bytes('abc'));
          await writeFile(join(mount, 'ballast'), Buffer.alloc(1024 * 1024));
          const full = await failure(store.append(log, 3, Buffer.alloc(1024 * 1024)));
          expect(full.code).toBe('unavailable');
          expect(full.message).toContain('ENOSPC');
          expect(await codeOf(store.create('payloads/x', Buffer.alloc(1024 * 1024)))).toBe('unavailable');
          expect(await text(store.open(log))).toBe('abc');
          expect(await store.stat('payloads/x')).toBeUndefined();
          expect(await store.append(log, 3, bytes('d'))).toBe(4);
          await rm(join(mount, 'ballast'));
          await store.create('payloads/x', Buffer.alloc(1024 * 1024));
          expect((await read(store.open('payloads/x'))).length).toBe(1024 * 1024);
        } finally {
          await store.close();
        }
      });

      test('that is full for rows refuses them, and takes them when there is space again', async () => {
        const store = await openLocalStore(mount);
        try {
          await store.insert('Sessions', { partition: 'main', id: 'first' });
          let stored = 0;
          const big = 'x'.repeat(32_000);
          const fill = async (): Promise<void> => {
            for (; stored < 400; stored++)
              await store.insert('Sessions', { partition: 'main', id: `r${stored}`, big });
          };
          expect(await codeOf(fill())).toBe('unavailable');
          expect(await collect(store.rows('Sessions', 'main'))).toHaveLength(stored + 1);
          execFileSync('mount', ['-o', 'remount,size=8m', mount]);
          await store.insert('Sessions', { partition: 'main', id: 'later', big });
          expect(await collect(store.rows('Sessions', 'main'))).toHaveLength(stored + 2);
        } finally {
          await store.close();
        }
      });
    },
  );
});
