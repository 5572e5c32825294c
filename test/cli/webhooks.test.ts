import { createHmac } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { openLocalStore } from '../../src/stores/local.ts';
import { openWebhooks } from '../../src/webhooks.ts';
import { type OpenClawMachine, newOpenClawMachine } from './openclaw.ts';

/** A machine whose endpoint runs, with one source that proves itself as GitHub does, and nobody who is told. */
async function serving(): Promise<{ machine: OpenClawMachine; base: string; send: Send }> {
  const machine = await newOpenClawMachine();
  await mkdir(inboxOf(machine, '..', '..'), { recursive: true });
  await machine.nexus(['config', 'set', 'notify.by', 'none']);
  const [, base = ''] = await machine.start(['serve', '--port', '0']).shows(/Listening on (\S+?),/);
  const { answer } = await machine.json([
    'webhooks',
    'url',
    '--agent',
    'main',
    '--source',
    'github',
    '--url',
    base,
  ]);
  const [url, secret] = [String(answer['url']), String(answer['secret'])];
  const send: Send = async (body, { delivery = String(Math.random()), ...more } = {}) => {
    const signature = createHmac('sha256', more.secret ?? secret)
      .update(body)
      .digest('hex');
    const response = await fetch(url, {
      method: 'POST',
      body,
      headers: {
        'content-type': more.type ?? 'application/json',
        'x-hub-signature-256': `sha256=${signature}`,
        'x-github-event': 'ping',
        'x-github-delivery': delivery,
      },
    });
    const said: unknown = await response.json();
    const { id, status } = Object.fromEntries(Object.entries(said ?? {}));
    return { status: response.status, said: String(status), id: String(id) };
  };
  return { machine, base, send };
}

type Send = (
  body: string,
  more?: { delivery?: string; type?: string; secret?: string },
) => Promise<{ status: number; said: string; id: string }>;

function inboxOf(machine: OpenClawMachine, ...more: string[]): string {
  return path.join(machine.openclaw.stateDir, 'workspace', 'inbox', 'webhooks', ...more);
}

async function filesOf(machine: OpenClawMachine): Promise<string[]> {
  return (await readdir(inboxOf(machine)).catch(() => [])).filter((name) => !name.startsWith('.'));
}

async function states(machine: OpenClawMachine): Promise<string[]> {
  const { answer } = await machine.json(['webhooks', 'list']);
  return Object.values(Object(answer['items'])).map((item) => String(Reflect.get(Object(item), 'state')));
}

test('from the printed URL to the inbox: signed, kept, listed, pulled, replayed, dropped', async () => {
  const { machine, send } = await serving();
  const first = await send('{"zen":"Design for failure.","big":12345678901234567890}', { delivery: 'd-1' });
  expect(first).toMatchObject({ status: 202, said: 'accepted' });
  expect(await send('{}', { delivery: 'd-1' })).toEqual({ status: 200, said: 'duplicate', id: first.id });
  expect(await send('{}', { secret: 'wrong' })).toMatchObject({ status: 401 });

  const listed = await machine.nexus(['webhooks', 'list', '--pending']);
  expect(listed.stdout.split('\n')[0]).toMatch(/^ID +SOURCE +RECEIVED +STATE +BYTES +DELIVERY$/);
  expect(listed.stdout).toMatch(new RegExp(`^${first.id} +github +now +pending +56 B +d-1$`, 'm'));

  const pulled = await machine.nexus(['pull-webhooks']);
  expect(pulled.status).toBe(0);
  expect(await filesOf(machine)).toEqual([`github_${first.id}.json`]);
  const file = await readFile(inboxOf(machine, `github_${first.id}.json`), 'utf8');
  expect(file).toContain('12345678901234567890');
  expect(JSON.parse(file)).toMatchObject({
    id: first.id,
    source: 'github',
    payload: { zen: 'Design for failure.' },
  });

  await rm(inboxOf(machine, `github_${first.id}.json`));
  const replayed = await machine.nexus(['webhooks', 'replay', first.id]);
  expect(replayed).toMatchObject({ status: 0, stdout: expect.stringMatching(/^main\.[0-9a-z]+\n$/) });
  const again = replayed.stdout.trim();
  expect(again).not.toBe(first.id);
  await machine.nexus(['pull-webhooks']);
  expect(await filesOf(machine)).toEqual([`github_${again}.json`]);

  const unwanted = await send('{}');
  expect((await machine.nexus(['webhooks', 'drop', unwanted.id])).stdout).toBe(`${unwanted.id}\n`);
  await machine.nexus(['pull-webhooks']);
  expect(await filesOf(machine)).toEqual([`github_${again}.json`]);
  expect(await states(machine)).toEqual(['delivered', 'delivered', 'dropped']);
}, 40_000);

test('show tells what is known and the payload; --body gives the bytes as they were received', async () => {
  const { machine, send } = await serving();
  const body = '{"n": 12345678901234567890,\r\n "esc": "\\u001b[31m"}';
  const { id } = await send(body);
  const shown = await machine.nexus(['webhooks', 'show', id]);
  expect(shown.stdout).toMatch(/^source +github$/m);
  expect(shown.stdout).toMatch(/^header x-github-event +ping$/m);
  expect(shown.stdout).toContain('{"n": 12345678901234567890,\n "esc": "\\u001b[31m"}');
  expect((await machine.nexus(['webhooks', 'show', id, '--body'])).stdout).toBe(body);
  const json = await machine.json(['webhooks', 'show', id]);
  expect(json.answer).toMatchObject({ command: 'webhooks show', ok: true, item: { id, state: 'pending' } });
  expect(json.stdout).toContain('"payload":{"n": 12345678901234567890,  "esc"');
  expect(json.stdout.trimEnd()).not.toContain('\n');
});

test('text of a sender controls no terminal, wherever it is shown', async () => {
  const { machine, send } = await serving();
  const { id } = await send('a\u001b[2Jb\u001b[31mred\u009b5n\nnext line', {
    type: 'text/plain',
    delivery: 'd\u009b2J',
  });
  const shown = await machine.nexus(['webhooks', 'show', id]);
  expect(shown.stdout).toContain('a\\u{1b}[2Jb\\u{1b}[31mred\\u{9b}5n\nnext line\n');
  const listed = await machine.nexus(['webhooks', 'list']);
  // oxlint-disable-next-line no-control-regex
  expect(shown.stdout + listed.stdout).not.toMatch(/[\u001b\u009b]/);
});

test('what a filter chooses is shown, and dropped or replayed when --yes says so', async () => {
  const { machine, send } = await serving();
  const ids = [await send('1'), await send('2')].map(({ id }) => id);
  const asked = await machine.nexus(['webhooks', 'drop', '--agent', 'main', '--source', 'github']);
  expect(asked.status).toBe(64);
  for (const id of ids) expect(asked.stdout).toContain(id);
  expect(asked.stderr).toContain('--yes');
  const json = await machine.json(['webhooks', 'drop', '--source', 'github']);
  expect(json).toMatchObject({ status: 64, answer: { ok: false, would: ids, error: { code: 'usage' } } });
  expect(await states(machine)).toEqual(['pending', 'pending']);
  const none = await machine.nexus(['webhooks', 'drop', '--source', 'gitlab', '--yes']);
  expect(none).toMatchObject({ status: 0, stdout: '' });
  const later = await machine.nexus(['webhooks', 'drop', '--since', '2999-01-01', '--yes']);
  expect(later).toMatchObject({ status: 0, stdout: '' });
  const dropped = await machine.json(['webhooks', 'drop', '--source', 'github', '--yes']);
  expect(dropped).toMatchObject({ status: 0, answer: { ok: true, items: ids.map((id) => ({ id })) } });
  expect(await states(machine)).toEqual(['dropped', 'dropped']);
  const replayed = await machine.json(['webhooks', 'replay', '--agent', 'main', '--yes']);
  expect(replayed.answer).toMatchObject({ ok: true, failed: [] });
  expect((await states(machine)).sort()).toEqual(['dropped', 'dropped', 'pending', 'pending']);
});

test('the newest are the last, and --limit shows those and counts the others', async () => {
  const { machine, send } = await serving();
  const ids: string[] = [];
  for (const body of ['1', '2', '3']) ids.push((await send(body)).id);
  const { answer } = await machine.json(['webhooks', 'list', '--limit', '2']);
  expect(answer).toMatchObject({ left: 1, items: [{ id: ids[1] }, { id: ids[2] }] });
  const text = await machine.nexus(['webhooks', 'list', '--limit', '1']);
  expect(text.stdout).toContain(ids[2]);
  expect(text.stderr).toContain('2 older ones not shown');
});

test('items that are not there, or not in the state for it, are named', async () => {
  const { machine, send } = await serving();
  const { id } = await send('{}');
  const absent = 'main.0mq5x1k2a0000f3k9q2zd';
  for (const args of [['show'], ['show', '--body'], ['replay'], ['drop']]) {
    for (const name of [absent, '../../etc/passwd']) {
      const ran = await machine.nexus(['webhooks', ...args, name]);
      expect(ran, args.join(' ')).toMatchObject({ status: 69, stdout: '' });
      expect(ran.stderr).toContain('There is no item');
    }
  }
  const pending = await machine.nexus(['webhooks', 'replay', id]);
  expect(pending).toMatchObject({ status: 69, stdout: '' });
  const some = await machine.json(['webhooks', 'drop', id, absent]);
  expect(some).toMatchObject({
    status: 3,
    answer: { ok: false, items: [{ id }], failed: [{ item: absent }] },
  });
  const before = await machine.nexus(['webhooks', 'drop', id]);
  expect(before.status).toBe(0);
  await machine.nexus(['webhooks', 'replay', id]);
  await machine.nexus(['pull-webhooks']);
  const [, replay = ''] =
    /^(\S+) .*delivered/m.exec((await machine.nexus(['webhooks', 'list'])).stdout) ?? [];
  const late = await machine.nexus(['webhooks', 'drop', replay]);
  expect(late.status).toBe(69);
  expect(late.stderr).toContain('box');
});

test('a mailbox belongs to the host that pulled first, until another claims it', async () => {
  const { machine, base, send } = await serving();
  await send('{}');
  const other = path.join(machine.home, 'other');
  await mkdir(path.join(other, 'openclaw', 'workspace'), { recursive: true });
  const elsewhere = {
    env: {
      NEXUS_ENDPOINT: base,
      NEXUS_HOST_NAME: 'other',
      NEXUS_DATA_DIR: path.join(other, 'data'),
      OPENCLAW_STATE_DIR: path.join(other, 'openclaw'),
    },
  };
  await machine.nexus(['pull-webhooks']);
  await send('{}');
  const refused = await machine.nexus(['pull-webhooks'], elsewhere);
  expect(refused.status).not.toBe(0);
  expect(refused.stderr).toContain('nexus webhooks claim --agent main');
  const claimed = await machine.nexus(['webhooks', 'claim', '--agent', 'main'], elsewhere);
  expect(claimed).toMatchObject({ status: 0, stdout: '' });
  expect(claimed.stderr).toContain('The mailbox of main belongs to the host other; box had it.');
  expect((await machine.nexus(['pull-webhooks'], elsewhere)).status).toBe(0);
  expect(await filesOf(machine)).toHaveLength(1);
  const there = await readdir(path.join(other, 'openclaw', 'workspace', 'inbox', 'webhooks'));
  expect(there.filter((name) => name.endsWith('.json'))).toHaveLength(1);
  const back = await machine.json(['webhooks', 'claim', '--agent', 'main', '--host', 'box']);
  expect(back.answer).toMatchObject({ ok: true, agent: 'main', host: 'box', before: 'other' });
}, 40_000);

test('over the endpoint everything is as it is on its machine, and it prunes by itself', async () => {
  const { machine, base, send } = await serving();
  const { id } = await send('{"a":1}');
  const far = { env: { NEXUS_ENDPOINT: base } };
  const commands = [['list'], ['show', id], ['show', id, '--body']];
  for (const args of commands) {
    const [there, here] = [
      await machine.nexus(['webhooks', ...args], far),
      await machine.nexus(['webhooks', ...args]),
    ];
    expect(there).toEqual(here);
    expect(there.status).toBe(0);
  }
  const dropped = await machine.nexus(['webhooks', 'drop', id], far);
  expect(dropped).toMatchObject({ status: 0, stdout: `${id}\n` });
  expect(await machine.nexus(['webhooks', 'replay', id], far)).toMatchObject({ status: 0 });
  const pruned = await machine.nexus(['webhooks', 'prune'], far);
  expect(pruned).toMatchObject({ status: 0, stdout: '' });
  expect(pruned.stderr).toContain('prunes its history itself');
  expect((await machine.json(['webhooks', 'prune'])).answer).toMatchObject({ ok: true, items: 0 });
});

test('prune removes what has been in history for 30 days, and nothing else', async () => {
  const machine = await newOpenClawMachine();
  const store = await openLocalStore(path.join(machine.dataDir, 'store'));
  let now = Date.now() - 31 * 86_400_000;
  const webhooks = openWebhooks(store, { now: () => new Date(now) });
  const receive = async () =>
    (
      await webhooks.receive({
        agent: 'main',
        source: 'a',
        contentType: '',
        headers: {},
        body: Buffer.from('x'),
      })
    ).id;
  const [old, kept] = [await receive(), await receive()];
  await webhooks.drop([old]);
  now = Date.now();
  await webhooks.close();
  expect((await machine.json(['webhooks', 'prune'])).answer).toMatchObject({ ok: true, items: 1 });
  const { answer } = await machine.json(['webhooks', 'list']);
  expect(answer['items']).toMatchObject([{ id: kept, state: 'pending' }]);
});

test('nothing there is a sentence, and an empty list for a program', async () => {
  const machine = await newOpenClawMachine();
  expect(await machine.nexus(['webhooks', 'list'])).toMatchObject({
    status: 0,
    stdout: '',
    stderr: 'There are no webhooks.\n',
  });
  expect((await machine.json(['webhooks', 'list', '--pending'])).answer).toMatchObject({
    ok: true,
    items: [],
  });
});

test.each([
  [['drop']],
  [['replay']],
  [['drop', '--yes']],
  [['drop', 'main.0mq5x1k2a0000f3k9q2zd', '--agent', 'main']],
  [['show']],
  [['show', 'main.0mq5x1k2a0000f3k9q2zd', '--body']],
  [['claim']],
  [['list', '--limit', '0']],
  [['list', '--since', 'yesterday']],
])('webhooks %j --json makes no sense: 64, and one object', async (args) => {
  const machine = await newOpenClawMachine();
  const { status, answer } = await machine.json(['webhooks', ...args]);
  expect(status).toBe(64);
  expect(answer).toMatchObject({ ok: false, error: { code: 'usage' } });
});

test('a pull that cannot begin answers with the fields of a report', async () => {
  const machine = await newOpenClawMachine();
  const { answer, status } = await machine.json(['pull-webhooks', '--folow']);
  expect(status).toBe(64);
  expect(answer).toMatchObject({
    job: 'pull-webhooks',
    ok: false,
    delivered: 0,
    failed: [{ item: 'pull-webhooks' }],
  });
});

test('what lies in the mailbox shows in the status, and is a problem when it waits for more than an hour', async () => {
  const { machine, send } = await serving();
  await send('{}');
  const fresh = await machine.nexus(['status']);
  expect(fresh.stdout).toMatch(/^mailbox +host +pending +bytes/m);
  expect(fresh.stdout).toMatch(/^main +- +1 +2 B +now/m);
  expect(fresh.stdout).toContain('All is well.');
  const store = await openLocalStore(path.join(machine.dataDir, 'store'));
  const webhooks = openWebhooks(store, { now: () => new Date(Date.now() - 2 * 3_600_000) });
  await webhooks.receive({
    agent: 'main',
    source: 'a',
    contentType: '',
    headers: {},
    body: Buffer.from('x'),
  });
  await webhooks.close();
  const late = await machine.json(['status']);
  expect(late.status).toBe(3);
  expect(late.answer).toMatchObject({
    mail: [{ agent: 'main', pending: 2 }],
    problems: [
      {
        problem: 'main: 2 webhooks pending, the oldest from 2 h ago.',
        next: 'Run `nexus pull-webhooks`.',
      },
    ],
  });
  await machine.nexus(['pull-webhooks']);
  const well = await machine.nexus(['status']);
  expect(well.status).toBe(0);
  expect(well.stdout).toMatch(/^webhooks {2}well, now$/m);
  expect(well.stdout).toMatch(/^main +box +0 /m);
}, 40_000);
