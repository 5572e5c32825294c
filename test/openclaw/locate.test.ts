import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { locate } from '../../src/openclaw/locate.ts';
import { locateAt, temporary } from './fixtures.ts';

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

function stateWith(config: string, ...agents: string[]): string {
  const state = join(temporary(), 'state');
  write(join(state, 'openclaw.json'), config);
  for (const agent of agents) mkdirSync(join(state, 'agents', agent), { recursive: true });
  return state;
}

const ids = (state: { agents: { id: string }[] }) => state.agents.map(({ id }) => id);

test('without a state directory it says which variable names one', async () => {
  const home = temporary();
  await expect(locate({ HOME: home })).rejects.toMatchObject({
    code: 'config',
    message: `No OpenClaw state directory at ${join(home, '.openclaw')}.`,
    hint: expect.stringContaining('OPENCLAW_STATE_DIR'),
  });
});

test('OPENCLAW_HOME is preferred to HOME, and may begin with ~', async () => {
  const home = temporary();
  mkdirSync(join(home, 'other/.openclaw'), { recursive: true });
  mkdirSync(join(home, '.openclaw'));
  expect((await locate({ HOME: home, OPENCLAW_HOME: '~/other' })).stateDir).toBe(
    join(home, 'other/.openclaw'),
  );
});

test('a profile has a state directory of its own', async () => {
  const home = temporary();
  mkdirSync(join(home, '.openclaw-work'));
  mkdirSync(join(home, '.openclaw'));
  expect((await locate({ HOME: home, OPENCLAW_PROFILE: 'work' })).stateDir).toBe(
    join(home, '.openclaw-work'),
  );
  expect((await locate({ HOME: home, OPENCLAW_PROFILE: 'default' })).stateDir).toBe(join(home, '.openclaw'));
  await expect(locate({ HOME: home, OPENCLAW_PROFILE: '../x' })).rejects.toMatchObject({ code: 'config' });
});

test.each(['.clawdbot', '.moldbot', '.moltbot'])('%s is used where there is no .openclaw', async (name) => {
  const home = temporary();
  write(join(home, name, 'clawdbot.json'), '{agents: {list: [{id: "old"}]}}');
  const state = await locate({ HOME: home });
  expect([state.stateDir, ids(state)]).toEqual([join(home, name), ['old']]);
});

test('agents come from the list, the entries and the directories', async () => {
  const state = stateWith('{agents: {entries: {b: {}}, list: [{id: "A"}]}} // JSON5', 'c', 'weird.name');
  expect(ids(await locateAt(state))).toEqual(['a', 'b', 'c', 'weird.name']);
});

test('without a roster there is main', async () => {
  expect(ids(await locateAt(stateWith('{}')))).toEqual(['main']);
});

test('an id that would leave its directory is refused by name', async () => {
  const found = await locateAt(
    stateWith('{agents: {list: [{id: "../../etc"}, {id: ".."}, {id: "ok"}, {id: 7}]}}'),
  );
  expect(ids(found)).toEqual(['ok']);
  expect(found.warnings).toEqual([
    expect.stringContaining('"../../etc"'),
    expect.stringContaining('".."'),
    expect.stringContaining('7'),
  ]);
});

test('a malformed configuration leaves a warning and the agents that have a directory', async () => {
  const found = await locateAt(stateWith('{agents: ', 'main', 'research'));
  expect(ids(found)).toEqual(['main', 'research']);
  expect(found.warnings).toEqual([expect.stringContaining('openclaw.json cannot be used')]);
});

test('included files are merged in order, relative to the including file, the own keys last', async () => {
  const state = stateWith(
    '{$include: ["conf/a.json5", "conf/b.json5"], agents: {defaults: {workspace: "/own"}}}',
  );
  write(join(state, 'conf/a.json5'), '{agents: {list: [{id: "a"}], defaults: {workspace: "/a"}}}');
  write(join(state, 'conf/b.json5'), '{agents: {$include: "../more.json"}}');
  write(join(state, 'more.json'), '{"list": [{"id": "b"}], "ownership": "explicit"}');
  const found = await locateAt(state);
  expect([ids(found), found.agents[0]?.workspace, found.warnings]).toEqual([['a', 'b'], '/own/a', []]);
});

test('a cycle of includes is left out with a warning', async () => {
  const state = stateWith('{agents: {list: [{id: "a"}]}, more: {$include: "b.json"}}');
  write(join(state, 'b.json'), '{"x": {"$include": "openclaw.json"}}');
  const found = await locateAt(state);
  expect(ids(found)).toEqual(['a']);
  expect(found.warnings).toEqual([expect.stringContaining('includes itself')]);
});

test('an included file that is missing does not hide the rest', async () => {
  const found = await locateAt(stateWith('{$include: "gone.json", agents: {list: [{id: "a"}]}}'));
  expect(ids(found)).toEqual(['a']);
  expect(found.warnings).toEqual([expect.stringContaining('gone.json')]);
});

test('environment variables are put in, and one that is missing is left and named', async () => {
  const state = stateWith(
    '{agents: {list: [{id: "a", workspace: "${WS}/a"}, {id: "b", workspace: "${NOT_SET}/b"}, {id: "c", workspace: "/$${WS}"}]}}',
  );
  const found = await locateAt(state, { WS: '/work' });
  expect(found.agents.map(({ workspace }) => workspace).slice(0, 1)).toEqual(['/work/a']);
  expect(found.agents[2]?.workspace).toBe('/${WS}');
  expect(found.warnings.join()).toContain('${NOT_SET}/b of agent b');
});

test('session.store and agentDir move data, and the usual places are looked at as well', async () => {
  const state = stateWith(
    '{session: {store: "~/s/{agentId}/sessions.json"}, agents: {list: [{id: "a", agentDir: "/d"}]}}',
  );
  const [agent] = (await locateAt(state, { HOME: '/home/x' })).agents;
  expect(agent).toMatchObject({
    sessionsDir: '/home/x/s/a',
    agentDir: '/d',
    importArchiveDir: '/home/x/s/session-sqlite-import-archive',
    shared: false,
  });
  expect(agent?.otherSessionsDirs).toContain(join(state, 'agents/a/sessions'));
  expect(agent?.databases).toEqual([
    join(state, 'agents/a/agent/openclaw-agent.sqlite'),
    '/d/openclaw-agent.sqlite',
    '/home/x/s/a/openclaw-agent.sqlite',
    '/home/x/s/a/openclaw-agent.a.sqlite',
  ]);
});

test('workspaces follow OpenClaw', async () => {
  const state = stateWith('{agents: {list: [{id: "main"}, {id: "b", workspace: "~/b"}, {id: "c"}]}}');
  const found = await locateAt(state, { HOME: '/home/x' });
  expect(found.agents.map(({ workspace }) => workspace)).toEqual([
    '/home/x/b',
    join(state, 'workspace-c'),
    join(state, 'workspace'),
  ]);
});

test.each([
  ['{}', { cronMs: 86_400_000, pruneMs: 2_592_000_000 }],
  ['{cron: {sessionRetention: false}}', { cronMs: undefined }],
  [
    '{cron: {sessionRetention: "1h30m"}, session: {maintenance: {pruneAfter: 7}}}',
    { cronMs: 5_400_000, pruneMs: 604_800_000 },
  ],
  ['{session: {maintenance: {mode: "warn"}}}', { pruneMs: undefined }],
  ['{session: {maintenance: {pruneAfter: "soon"}}}', { pruneMs: 2_592_000_000 }],
])('retention of %s', async (config, retention) => {
  expect((await locateAt(stateWith(config))).retention).toMatchObject(retention);
});

test('an agent whose directory is a link is found', async () => {
  const state = stateWith('{}');
  const elsewhere = temporary();
  mkdirSync(join(state, 'agents'));
  symlinkSync(elsewhere, join(state, 'agents', 'moved'));
  expect(ids(await locateAt(state))).toEqual(['main', 'moved']);
});
