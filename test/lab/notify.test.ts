import { createHmac } from 'node:crypto';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { listAgent } from '../../src/openclaw/agent.ts';
import { locate } from '../../src/openclaw/locate.ts';
import { valueAt } from '../../src/settings.ts';
import { type Machine, newMachine } from '../cli/nexus.ts';
import { freePort } from '../freeport.ts';
import { drain } from '../openclaw/fixtures.ts';
import { canRun, type OpenClaw, startMs, startOpenClaw } from './openclaw.ts';

const testMs = 120_000;
const payload = { ref: 'refs/heads/main', repository: { full_name: 'acme/rockets' }, after: '0a1b2c3d4e5f' };

describe.skipIf(!canRun)('a GitHub webhook on the way to an agent of a real OpenClaw', () => {
  let claw: OpenClaw;
  beforeAll(async () => {
    claw = await startOpenClaw();
  }, startMs);
  afterAll(async () => {
    await claw.stop();
  }, 60_000);

  /** A Nexus beside it, whose endpoint has taken the webhook for this agent. */
  async function delivered(
    agent: string,
    notify: object,
    env: Record<string, string> = {},
  ): Promise<{ machine: Machine; pull: () => ReturnType<Machine['json']> }> {
    const machine = await newMachine();
    await mkdir(path.dirname(machine.configFile), { recursive: true });
    const port = await freePort();
    await writeFile(machine.configFile, JSON.stringify({ serve: { port }, notify }), { mode: 0o600 });
    const { answer } = await machine.json(['webhooks', 'url', '--agent', agent, '--source', 'github']);
    const serving = machine.start(['serve']);
    await serving.shows(/http:\/\//);
    const body = JSON.stringify(payload);
    const response = await fetch(String(answer['url']), {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'x-github-event': 'push',
        'x-github-delivery': '72d3162e-cc78-11e3-81ab-4c9367dc0958',
        'x-hub-signature-256': `sha256=${createHmac('sha256', String(answer['secret'])).update(body).digest('hex')}`,
      },
      body,
    });
    expect(response.status).toBe(202);
    const known = { OPENCLAW_STATE_DIR: claw.stateDir, ...env };
    return { machine, pull: () => machine.json(['pull-webhooks', '--agent', agent], { env: known }) };
  }

  async function inboxFile(agent: string): Promise<string> {
    const inbox = path.join(claw.workspace(agent), 'inbox', 'webhooks');
    const names = (await readdir(inbox)).filter((name) => name.startsWith('github_'));
    const stats = await Promise.all(
      names.map(async (name) => ({ name, text: await readFile(path.join(inbox, name), 'utf8') })),
    );
    const last = stats.sort((a, b) => a.name.localeCompare(b.name)).at(-1);
    expect(JSON.parse(last?.text ?? '')).toMatchObject({ source: 'github', payload });
    return path.join(inbox, last?.name ?? '');
  }

  /** The message to the agent that holds this text, as its transcript has it. */
  async function messageWith(agent: string, text: string): Promise<string | undefined> {
    const state = await locate({ HOME: '/nonexistent', OPENCLAW_STATE_DIR: claw.stateDir });
    const home = state.agents.find(({ id }) => id === agent);
    if (home === undefined) throw new Error(`no agent ${agent}`);
    const listing = await listAgent(state, home, { everything: true, now: Date.now(), settleMs: 0 });
    for (const place of listing.places)
      for (const line of (await drain(await place.open())).toString().split('\n')) {
        if (line === '') continue;
        const entry: { message?: { role?: string; content?: unknown } } = JSON.parse(line);
        const content = entry.message?.content;
        const said = typeof content === 'string' ? content : JSON.stringify(content ?? '');
        if (entry.message?.role === 'user' && said.includes(text)) return said;
      }
    return undefined;
  }

  test(
    'is put into its inbox, and the session that tells it names the file',
    async () => {
      const { pull } = await delivered('main', {});
      const { status, answer } = await pull();
      expect(answer).toMatchObject({ ok: true, delivered: 1, notified: { done: 1 } });
      expect(status).toBe(0);
      const file = await inboxFile('main');
      const message = await messageWith('main', file);
      expect(message).toContain('Nexus has put one webhook for you into your inbox, from github (1).');
      expect(message).toMatch(/nexus-batch: [0-9a-f-]{36}/);
    },
    testMs,
  );

  test(
    'is in the message itself where its sandbox hides the inbox',
    async () => {
      // The gateway goes on without one: it would need containers.
      const hidden = path.join(claw.stateDir, 'hidden.json');
      const known: { agents: { defaults: object } } = JSON.parse(await readFile(claw.configFile, 'utf8'));
      known.agents.defaults = { ...known.agents.defaults, sandbox: { mode: 'all' } };
      await writeFile(hidden, JSON.stringify(known));
      const { pull } = await delivered('work', {}, { OPENCLAW_CONFIG_PATH: hidden });
      expect((await pull()).answer).toMatchObject({ ok: true, delivered: 1, notified: { done: 1 } });
      const message = await messageWith('work', 'begin untrusted');
      expect(message).toContain(`"payload": ${JSON.stringify(payload)}`);
    },
    testMs,
  );

  test(
    'is known to be answered by the transcript, when nobody waited for it',
    async () => {
      const { pull } = await delivered('main', { waitSeconds: 0 });
      expect((await pull()).answer).toMatchObject({ ok: true, notified: { admitted: 1, done: 0 } });
      let done: unknown;
      for (const end = Date.now() + 60_000; done !== 1 && Date.now() < end; await sleep(500)) {
        const { answer } = await pull();
        expect(answer).toMatchObject({ ok: true, delivered: 0, notified: { repeated: 0 } });
        done = valueAt(answer, ['notified', 'done']);
      }
      expect(done).toBe(1);
    },
    testMs,
  );

  test(
    "is told by OpenClaw's command line where hooks are not wanted",
    async () => {
      const { pull } = await delivered(
        'work',
        { by: 'cli' },
        {
          PATH: `${claw.programs}:${process.env['PATH'] ?? ''}`,
        },
      );
      expect((await pull()).answer).toMatchObject({ ok: true, delivered: 1, notified: { done: 1 } });
      expect(await messageWith('work', await inboxFile('work'))).toContain('nexus-batch: ');
    },
    testMs,
  );
});
