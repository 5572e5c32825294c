import { execa } from 'execa';
import { expect, test } from 'vitest';
import { boots, withSystemd } from './machine.ts';

test.skipIf(!boots)(
  'a machine whose work takes too long is ended with all that it runs',
  { timeout: 60_000 },
  async () => {
    let pid = '';
    const limit = new AbortController();
    const hangs = withSystemd(async (machine) => {
      await machine.sh('systemd-run -q --unit=hung sleep 86399');
      pid = (await machine.unit('hung.service'))['MainPID'] ?? '';
      limit.abort();
      await machine.run(['sleep', '86399']);
    }, limit.signal);
    await expect(hangs).rejects.toThrow('not done in time');
    expect(Number(pid)).toBeGreaterThan(1);
    expect((await execa('pgrep', ['-f', '^sleep 86399$'], { reject: false })).exitCode).toBe(1);
    expect(
      (await execa('find', ['/sys/fs/cgroup', '-maxdepth', '1', '-name', `nexus-test-${process.pid}-*`]))
        .stdout,
    ).toBe('');
  },
);
