import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { openCounting } from '../../src/usagecount.ts';
import { openCommits } from '../../src/usagecommits.ts';
import { openIndexFile } from '../../src/usagefile.ts';
import type { Lines } from '../../src/usagelines.ts';
import { openStates } from '../../src/usagestate.ts';
import { temporary } from './history.ts';

test('a transcript that is made where another was dropped counts for its own session', async () => {
  const index = await openIndexFile(path.join(await temporary(), 'usage', 'index.sqlite'), 'a-store');
  onTestFinished(() => index.close());
  const counting = openCounting(index.db);
  const states = openStates(index.db, counting);
  const { commit } = openCommits(index, counting);

  function write(transcript: string, ...entries: string[]): void {
    const card = { agent: 'main', transcript };
    const calls = entries.map((entry) => ({
      entry,
      at: Date.parse('2026-11-20T10:00:00Z') + entry.charCodeAt(0),
      provider: 'p',
      model: 'm',
      input: 1,
      output: 0,
      cacheRead: 0,
      cacheWrite: 0,
      cost: 1,
    }));
    const times = { headerAt: undefined, firstAt: calls[0]?.at, lastAt: calls[0]?.at };
    const lines: Lines = { calls, bytes: 9, lines: 1, ...times, odd: new Map(), asked: undefined };
    const stored = {
      storedAt: '',
      updatedAt: '',
      path: `inbox/main/${transcript}.jsonl`,
      length: 9,
      complete: false,
    };
    const chunk = { from: 0, lines, seam: new Uint8Array(), tail: false, mail: undefined };
    states.apply(states.made(card), { ...card, ...stored }, chunk);
  }

  await commit(() => write('a', 'x'));
  await commit(() => write('b', 'A', 'x'));
  await commit(() => {
    const dropped = states.stateOf('main', 'b');
    if (dropped !== undefined) states.drop(dropped);
    write('a~2', 'x', 'z', 'w');
  });
  const sums = index.db
    .prepare(
      'SELECT s.name, sum(r.calls) AS calls FROM rollup r JOIN sessions s ON s.id = r.session GROUP BY 1',
    )
    .all();
  expect(sums.map(({ name, calls }) => [name, calls])).toEqual([['a', 3]]);
});
