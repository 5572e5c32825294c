import { mkdir, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { World } from '../world.ts';
import { endingOf, endOf, finishedBy, type Flow } from './flow.ts';

const calls = 4;
const ids = ['aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb'];

function transcript(id: string): string {
  const header = { type: 'session', version: 3, id, timestamp: '2026-11-20T10:00:00.000Z', cwd: '/' };
  const messages = Array.from({ length: calls }, (_, n) => ({
    type: 'message',
    id: `${id.slice(0, 4)}${n}`,
    timestamp: `2026-11-20T10:00:0${n}.000Z`,
    message: {
      role: 'assistant',
      provider: 'anthropic',
      model: 'claude-opus-4-5',
      content: [],
      usage: { input: 100, output: 10, cacheRead: 0, cacheWrite: 0, cost: { total: 0.01 } },
    },
  }));
  return [header, ...messages].map((line) => `${JSON.stringify(line)}\n`).join('');
}

const total = ids.length * calls * 110;

/** What an answer says: the sum, and whether it is of all that is stored. */
function sumIn(stdout: string): { total?: unknown; complete?: unknown } {
  try {
    const { totals, complete }: { totals?: { total?: unknown }; complete?: unknown } = JSON.parse(stdout);
    return { total: totals?.total, complete };
  } catch {
    return {};
  }
}

/** Two transcripts are stored and none was read yet. */
export const usageFlow: Flow = {
  name: 'usage',
  async prepare(world: World) {
    await world.configure({ host: 'box' });
    const sessions = path.join(world.stateDir, 'agents', 'main', 'sessions');
    await mkdir(sessions, { recursive: true });
    await writeFile(path.join(sessions, 'sessions.json'), '{}');
    for (const id of ids) {
      const file = path.join(sessions, `${id}.jsonl`);
      await writeFile(file, transcript(id));
      await utimes(file, new Date(Date.now() - 7_200_000), new Date(Date.now() - 7_200_000));
    }
    const { status, stderr } = await world.run(['upload']);
    if (status !== 0) throw new Error(stderr);
  },
  async attempt(world, env, killed) {
    const ran = await endOf(world.start(['usage', '--json'], env));
    const broken = endingOf(ran, killed);
    const said = sumIn(ran.stdout);
    if (ran.status === 0 && said.complete === true && said.total !== total)
      broken.push(`It answered ${String(said.total)} tokens of ${total} and called that complete.`);
    const after = await endOf(world.start(['usage', '--json']));
    broken.push(...finishedBy(after));
    const sum = sumIn(after.stdout);
    if (sum.total !== total || sum.complete !== true)
      broken.push(
        `The next answer is ${String(sum.total)} tokens of ${total}, complete: ${String(sum.complete)}.`,
      );
    return broken;
  },
};
