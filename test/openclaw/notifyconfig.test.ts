import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type NotifyRequest, notifyConfig } from '../../src/openclaw/notifyconfig.ts';
import { locateAt, temporary } from './fixtures.ts';

const hooks = { enabled: true, token: 'from-openclaw' };
const agents = { entries: { main: {}, work: {} } };

async function look(
  config: object | undefined,
  more: Partial<NotifyRequest> & { env?: Record<string, string> } = {},
) {
  const stateDir = join(temporary(), '.openclaw');
  mkdirSync(join(stateDir, 'agents', 'retired'), { recursive: true });
  if (config !== undefined) writeFileSync(join(stateDir, 'openclaw.json'), JSON.stringify(config));
  return notifyConfig({
    state: await locateAt(stateDir, more.env),
    agent: 'main',
    env: { PATH: '/bin' },
    by: 'auto',
    inbox: '/srv/ws/inbox/webhooks',
    secretVariables: [],
    ...more,
  });
}

describe('an agent is told', () => {
  test('by hooks where openclaw.json has them on', async () => {
    expect((await look({ hooks, agents })).way).toEqual({
      by: 'hooks',
      url: 'http://127.0.0.1:18789/hooks',
      token: 'from-openclaw',
    });
  });

  test.each<[what: string, config: object, env: Record<string, string>, url: string]>([
    [
      'the port and path of openclaw.json',
      { gateway: { port: 19001 }, hooks: { ...hooks, path: 'in/' } },
      {},
      'http://127.0.0.1:19001/in',
    ],
    [
      'the port of the environment first',
      { gateway: { port: 19001 }, hooks },
      { OPENCLAW_GATEWAY_PORT: '19002' },
      'http://127.0.0.1:19002/hooks',
    ],
    [
      'the usual port where that said is none',
      { gateway: { port: 'x' }, hooks },
      { OPENCLAW_GATEWAY_PORT: 'y' },
      'http://127.0.0.1:18789/hooks',
    ],
  ])('at %s', async (_, config, env, url) => {
    expect((await look(config, { env })).way).toMatchObject({ by: 'hooks', url });
  });

  test('with a token of the environment, as OpenClaw reads it', async () => {
    const config = { hooks: { enabled: true, token: '${LAB_TOKEN}' } };
    expect((await look(config, { env: { LAB_TOKEN: 'its-value' } })).way).toMatchObject({
      token: 'its-value',
    });
  });

  test('with the token and at the URL that Nexus was told', async () => {
    const own = { hooksUrl: 'https://claw.example/hooks/', hooksToken: 'mine' };
    for (const config of [undefined, {}, { hooks, agents }])
      expect((await look(config, own)).way).toEqual({
        by: 'hooks',
        url: 'https://claw.example/hooks',
        token: 'mine',
      });
  });

  test.each<[what: string, config: object | undefined]>([
    ['there is no openclaw.json', undefined],
    ['hooks are off', { hooks: { ...hooks, enabled: false } }],
    ['hooks have no token', { hooks: { enabled: true } }],
    [
      'their token is a reference, which OpenClaw does not take either',
      { hooks: { enabled: true, token: { source: 'env', id: 'X' } } },
    ],
    ['their token is not set here', { hooks: { enabled: true, token: '${NOT_SET}' } }],
    ['hooks leave this agent out', { agents, hooks: { ...hooks, allowedAgentIds: ['work'] } }],
    ['hooks leave all agents out', { agents, hooks: { ...hooks, allowedAgentIds: [] } }],
    ['the gateway speaks TLS with its own certificate', { hooks, gateway: { tls: { enabled: true } } }],
    ['the gateway is elsewhere', { hooks, gateway: { mode: 'remote' } }],
  ])('by the command line where %s', async (_, config) => {
    expect((await look(config)).way.by).toBe('cli');
  });

  test.each(['*', 'main', 'MAIN '])('by hooks that allow %s', async (allowed) => {
    expect((await look({ agents, hooks: { ...hooks, allowedAgentIds: [allowed] } })).way.by).toBe('hooks');
  });

  test('not at all where hooks are demanded and are off: it says so', async () => {
    const { way } = await look({ hooks: { enabled: false } }, { by: 'hooks' });
    expect(way).toEqual({ by: 'nothing', reason: expect.stringContaining('Hooks are off') });
  });

  test('by the command line where that is demanded', async () => {
    expect((await look({ hooks, agents }, { by: 'cli' })).way.by).toBe('cli');
  });

  test('not at all where nothing is wanted', async () => {
    expect((await look({ hooks, agents }, { by: 'none' })).way).toEqual({ by: 'none' });
  });

  test.each(['auto', 'hooks', 'cli'] as const)(
    'not by %s when openclaw.json has it no more: old releases would tell another agent',
    async (by) => {
      const { way } = await look({ hooks, agents }, { by, agent: 'retired' });
      expect(way).toEqual({ by: 'nothing', reason: expect.stringContaining('no agent retired') });
    },
  );

  test('by its name in agents.list, as before 2026.8', async () => {
    const config = { hooks, agents: { list: [{ id: 'main' }, { id: 'Work' }] } };
    expect((await look(config, { agent: 'work' })).way.by).toBe('hooks');
  });
});

describe("OpenClaw's command line", () => {
  const env = {
    PATH: '/bin',
    GATEWAY_TOKEN: 'openclaw may need it',
    NEXUS_API_KEY: 'k',
    NEXUS_KEYS: '[]',
    AZURE_CLIENT_SECRET: 's',
    CREDENTIALS_DIRECTORY: '/run/c',
    GITHUB_SECRET: 'g',
  };

  test("sees what OpenClaw needs and none of Nexus's secrets", async () => {
    const { way } = await look({ agents }, { by: 'cli', env, secretVariables: ['GITHUB_SECRET'] });
    if (way.by !== 'cli') throw new Error(way.by);
    expect(Object.keys(way.env).sort()).toEqual(
      expect.arrayContaining(['GATEWAY_TOKEN', 'OPENCLAW_CONFIG_PATH', 'OPENCLAW_STATE_DIR', 'PATH']),
    );
    expect(Object.keys(way.env).join()).not.toMatch(/NEXUS|AZURE|CREDENTIALS|GITHUB/);
    expect(way.env['OPENCLAW_STATE_DIR']).toMatch(/\.openclaw$/);
  });

  test("gives a turn the time of OpenClaw's setting", async () => {
    const slow = { agents: { ...agents, defaults: { timeoutSeconds: 90 } } };
    expect((await look(slow, { by: 'cli' })).way).toMatchObject({ turnSeconds: 90 });
    expect((await look({ agents }, { by: 'cli' })).way).toMatchObject({ turnSeconds: 3600 });
  });

  test.runIf(process.getuid?.() === 0)(
    'runs as the owner of the state, for whom root would leave closed files',
    async () => {
      const stateDir = join(temporary(), '.openclaw');
      mkdirSync(stateDir);
      chownSync(stateDir, 1234, 1235);
      const state = await locateAt(stateDir);
      const { way } = notifyConfig({
        state,
        agent: 'main',
        env: { HOME: '/root', PATH: '/bin', XDG_CONFIG_HOME: '/root/.config' },
        by: 'cli',
        inbox: '/srv/ws/inbox/webhooks',
        secretVariables: [],
      });
      expect(way).toMatchObject({
        as: { uid: 1234, gid: 1235 },
        env: { HOME: join(stateDir, '..'), PATH: '/bin' },
      });
      expect(JSON.stringify(way)).not.toContain('/root/.config');
    },
  );
});

describe('an agent sees its inbox', () => {
  const nothing = 'nothing';
  const host = { directory: '/srv/ws/inbox/webhooks', writable: true };
  const ro = { directory: '/agent/inbox/webhooks', writable: false };
  const rw = { directory: '/workspace/inbox/webhooks', writable: true };
  test.each<[what: string, defaults: object | undefined, own: object | undefined, sees: unknown]>([
    ['where it is, without a sandbox', undefined, undefined, host],
    ['where it is, with the sandbox off', { mode: 'off', workspaceAccess: 'ro' }, undefined, host],
    ['not, in a sandbox of its own', { mode: 'all' }, undefined, nothing],
    ['not, where only its main session has no sandbox', { mode: 'non-main' }, undefined, nothing],
    ['at /agent, read-only', { mode: 'non-main', workspaceAccess: 'ro' }, undefined, ro],
    ['at /workspace', { mode: 'all', workspaceAccess: 'rw', backend: 'podman' }, undefined, rw],
    [
      'not, where tools run on another machine',
      { mode: 'all', workspaceAccess: 'rw', backend: 'ssh' },
      undefined,
      nothing,
    ],
    ['as its own settings say', { mode: 'all', workspaceAccess: 'rw' }, { workspaceAccess: 'ro' }, ro],
    ['as its own mode says', { mode: 'all' }, { mode: 'off' }, host],
    ['as its own mode says, by the access of all', { workspaceAccess: 'rw' }, { mode: 'all' }, rw],
  ])('%s', async (_, defaults, own, sees) => {
    const sandbox = (value: object | undefined) => (value === undefined ? {} : { sandbox: value });
    const entries = { main: sandbox(own), work: {} };
    expect((await look({ agents: { defaults: sandbox(defaults), entries } })).sees).toEqual(sees);
    const list = [{ id: 'work' }, { id: 'main', default: true, ...sandbox(own) }];
    expect((await look({ agents: { defaults: sandbox(defaults), list } })).sees).toEqual(sees);
  });
});
