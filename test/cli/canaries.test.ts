import { createHmac } from 'node:crypto';
import { chmod, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { ids, transcript } from '../jobs/host.ts';
import { startReceiver } from '../receiver.ts';
import { logged, type LogFormat, type LoggedOptions } from './logged.ts';
import { newOpenClawMachine } from './openclaw.ts';

/** In every secret, payload, header, query and text of a transcript, and to be in no log. */
const canary = 'cAnArY';
const formats: LogFormat[] = ['journal', 'json', 'people'];
const debug = ['--log-level', 'debug'];

async function machineWith(settings: object) {
  const machine = await newOpenClawMachine();
  const { openclaw, dataDir, home } = machine;
  await machine.configure(settings);
  const known = { OPENCLAW_STATE_DIR: openclaw.stateDir, NEXUS_DATA_DIR: dataDir, NEXUS_HOST_NAME: 'box' };
  return {
    ...machine,
    async run(args: string[], options: LoggedOptions = {}) {
      const ran = await logged(home, [...debug, ...args], { ...options, env: { ...known, ...options.env } });
      const lines = ran.stderr
        .split('\n')
        .filter((line) => line.toLowerCase().includes(canary.toLowerCase()));
      expect(lines).toEqual([]);
      expect(Buffer.from(ran.stderr).toString('latin1')).not.toContain(
        Buffer.from(canary).toString('base64'),
      );
      return ran;
    },
  };
}

const retry = { tries: 2, baseMs: 1, maxMs: 1 };

test.each(formats)(
  'serve, whatever is sent to it, logs no secret and no payload: %s',
  async (format) => {
    const secret = `secret-${canary}`;
    const machine = await machineWith({
      keys: [{ name: 'reader', hash: 'a'.repeat(64), agents: '*', scopes: ['read'] }],
      mailboxes: {
        main: {
          sources: {
            github: { verify: 'github', secret: [secret, `old-${canary}`] },
            stripe: { verify: 'stripe', secret: `whsec_${canary}` },
            slack: { verify: 'slack', secret },
            standard: { verify: 'standard', secret: `whsec_${Buffer.from(canary).toString('base64')}` },
            url: { verify: 'secret', secret },
            mine: { verify: 'hmac', secret, hmac: { header: 'x-mine' }, delivery: { header: 'x-delivery' } },
            meta: { verify: 'meta', secret, verifyToken: secret },
            open: { verify: 'none' },
            absent: { verify: 'github', secret: { env: 'NOT_THERE' } },
            nofile: { verify: 'github', secret: { file: '/nonexistent/place' } },
          },
        },
      },
    });
    const key = (await machine.nexus(['keys', 'add', 'writer'])).stdout.trim();
    const statuses: number[] = [];
    const { entries } = await machine.run(['serve', '--port', '0'], {
      format,
      async meanwhile(stderr) {
        await expect.poll(stderr, { timeout: 10_000 }).toContain('Listening on');
        const [, url = ''] = /Listening on (http:\S+?),/.exec(await stderr()) ?? [];
        const body = JSON.stringify({ text: canary, id: canary });
        const ask = async (place: string, options: RequestInit = {}) => {
          const answer = await fetch(url + place, options);
          statuses.push(answer.status);
          await answer.arrayBuffer();
        };
        const json = { 'content-type': 'application/json' };
        const sources = ['github', 'stripe', 'slack', 'standard', 'url', 'mine', 'meta', 'open', 'absent'];
        for (const source of [...sources, 'nofile', 'other', canary, `${canary}\n`, '']) {
          // Who has a key names what it sends, and that is a fact; what a stranger writes there is none.
          const mine = source.includes(canary) ? `nxk_${canary}` : key;
          const to = `/api/webhook/main?source=${encodeURIComponent(source)}`;
          const signature = `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;
          const headers = {
            ...json,
            'x-github-delivery': canary,
            'x-delivery': canary,
            'x-other': canary,
            authorization: `Bearer ${canary}`,
            cookie: canary,
          };
          const signed = { ...headers, 'x-hub-signature-256': signature, 'x-mine': signature.slice(7) };
          for (const payload of [body, `{"torn": "${canary}`, '']) {
            await ask(`${to}&more=${canary}`, { method: 'POST', headers, body: payload });
            await ask(to, {
              method: 'POST',
              headers: { ...headers, 'x-hub-signature-256': canary },
              body: payload,
            });
            await ask(to, {
              method: 'POST',
              headers: { ...signed, 'stripe-signature': `t=${canary},v1=${canary}` },
              body: payload,
            });
          }
          await ask(`${to}&secret=${secret}`, { method: 'POST', headers, body });
          await ask(`${to}&secret=${canary}`, { method: 'POST', headers, body });
          await ask(`${to}&code=nxk_${canary}`, { method: 'POST', headers, body });
          await ask(`${to}&code=${mine}`, { method: 'POST', headers, body });
          await ask(to, { method: 'POST', headers: { ...signed, 'x-functions-key': mine }, body });
          const packed = { ...signed, 'x-functions-key': mine };
          await ask(to, {
            method: 'POST',
            headers: { ...packed, 'content-encoding': 'gzip' },
            body: gzipSync(body).subarray(0, 20),
          });
          await ask(to, { method: 'POST', headers: { ...packed, 'content-encoding': canary }, body });
          await ask(to, { method: 'POST', headers: { ...packed, 'content-type': canary }, body });
          await ask(to, {
            method: 'POST',
            headers: { ...packed, 'content-type': `text/plain; charset=${canary}` },
            body,
          });
          await ask(`${to}&validationToken=${canary}`, { method: 'POST', headers: packed, body });
          await ask(`${to}&hub.mode=subscribe&hub.verify_token=${canary}&hub.challenge=${canary}`);
          await ask(`${to}&hub.mode=subscribe&hub.verify_token=${secret}&hub.challenge=${canary}`);
        }
        const known = { ...json, 'x-functions-key': key };
        for (const who of [known, { 'x-functions-key': `nxk_${canary}` }, {}]) {
          await ask(`/api/webhook/${canary}?source=github`, {
            method: 'POST',
            headers: { ...json, ...(who === known ? {} : who) },
            body,
          });
          for (const place of ['/api/sessions', '/api/webhook/items', '/api/webhook/pending', `/${canary}`])
            for (const method of ['GET', 'POST', 'DELETE', 'PUT', 'PATCH'])
              await ask(`${place}?after=${canary}&agentId=${canary}!&wait=${canary}`, {
                method,
                headers: who,
                ...(method === 'GET'
                  ? {}
                  : { body: `{"ids": ["${canary}"], "agentId": "${canary}!", "transcript": "${canary}"` }),
              });
          const about = `{"sessionKey": "${canary}", "trigger": "${canary}"`;
          const upload = {
            'upload-offset': canary,
            'upload-complete': canary,
            'nexus-about': about,
            range: canary,
          };
          await ask(`/api/sessions/main/${ids.a}`, {
            method: 'PATCH',
            headers: { ...who, ...upload },
            body: canary,
          });
          await ask(`/api/sessions/main/%${canary}`, { headers: who });
          await ask(`/api/sessions/main/${canary}%00`, { headers: who });
          await ask(`/api/webhook/items/main.${canary}`, { headers: who });
        }
        const session = JSON.stringify({
          agentId: 'main',
          sessionId: ids.a,
          transcript: transcript(ids.a, 3, canary),
        });
        await ask('/api/sessions', { method: 'POST', headers: known, body: session });
        await ask(`/api/sessions/main/${ids.a}`, { headers: known });
        // The store breaks, in the middle of a transcript and of an item.
        await rm(path.join(machine.dataDir, 'store', 'blobs'), { recursive: true, force: true });
        await ask(`/api/sessions/main/${ids.a}`, { headers: known });
        await ask('/readyz');
        await raw(url, `GET /${canary} ${canary}\r\n${canary}\r\n\r\n`);
        await raw(url, `GET / HTTP/1.1\r\nx: ${canary.repeat(10_000)}\r\n\r\n`);
      },
    });
    for (const status of [200, 202, 400, 401, 403, 404, 405, 415, 503]) expect(statuses).toContain(status);
    if (format === 'people') return;
    expect(entries.filter(({ fields }) => fields['request'] !== undefined).length).toBeGreaterThanOrEqual(
      statuses.length,
    );
    // What an administrator needs of a refused webhook is there.
    expect(entries.map(({ fields }) => fields)).toContainEqual(
      expect.objectContaining({
        route: '/api/webhook/:agentId',
        agent: 'main',
        source: 'github',
        code: 'unauthorized',
        reason: expect.stringMatching(/\w/),
      }),
    );
  },
  60_000,
);

async function raw(url: string, text: string): Promise<void> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  socket.on('error', () => undefined);
  socket.end(text);
  socket.resume();
  await new Promise((resolve) => socket.once('close', resolve));
}

test.each(formats)(
  'jobs log no text of a transcript, no payload and no secret: %s',
  async (format) => {
    const monitor = await startReceiver();
    monitor.answer(500);
    const machine = await machineWith({
      retry,
      alerts: {
        afterFailures: 1,
        channels: [
          { kind: 'webhook', url: `${monitor.url}/${canary}?token=${canary}`, token: canary },
          { kind: 'webhook', url: `http://127.0.0.1:9/${canary}` },
          { kind: 'webhook', url: { env: 'NOT_THERE' } },
        ],
      },
      heartbeats: {
        upload: `${monitor.url}/${canary}`,
        backfill: `http://127.0.0.1:9/${canary}`,
        'pull-webhooks': `http://u:${canary}@127.0.0.1:9/`,
      },
      notify: { by: 'hooks', hooksUrl: `${monitor.url}/hooks`, hooksToken: canary },
      mailboxes: { main: { sources: { url: { verify: 'secret', secret: canary } } } },
    });
    const { openclaw } = machine;
    const text = transcript(ids.a, 3, canary);
    await openclaw.write(`${ids.a}.jsonl`, text);
    await openclaw.write(`${ids.b}.jsonl`, `${canary}\n{"torn": "${canary}`);
    await openclaw.write(
      `${ids.c}.jsonl`,
      Buffer.concat([Buffer.from(canary), Buffer.of(0xff, 0, 0x1b, 10)]),
    );
    await openclaw.write('sessions.json', `{"${canary}": ${canary}`);
    await openclaw.write(`${ids.a}.jsonl.zst`, Buffer.from(canary.repeat(50)));
    const agent = path.join(openclaw.stateDir, 'agents', 'main', 'agent');
    await mkdir(agent, { recursive: true });
    await writeFile(path.join(agent, 'openclaw-agent.sqlite'), `not a database: ${canary}`);
    for (const args of [
      ['upload'],
      ['backfill', '--all', '--verify'],
      ['upload', '--json'],
      ['status'],
      ['status', '--alert'],
    ])
      await machine.run(args, { format });
    await writeFile(path.join(openclaw.stateDir, 'openclaw.json'), `{hooks: {token: "${canary}" ${canary}}`, {
      mode: 0o600,
    });
    for (const args of [['upload'], ['pull-webhooks'], ['status']]) await machine.run(args, { format });
    const workspace = path.join(openclaw.root, 'workspace');
    await mkdir(workspace);
    const config = { hooks: { enabled: true, token: canary }, agents: { defaults: { workspace } } };
    await writeFile(path.join(openclaw.stateDir, 'openclaw.json'), JSON.stringify(config));

    const endpoint = machine.start(['serve', '--port', '0']);
    const [, url = ''] = await endpoint.shows(/Listening on (http:\S+?),/);
    const send = async (n: number) =>
      await fetch(`${url}/api/webhook/main?source=url&secret=${canary}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'x-github-event': canary },
        body: JSON.stringify({ n, text: canary }),
      });
    expect((await send(1)).status).toBe(202);
    const env = { NEXUS_ENDPOINT: url };
    // An inbox that cannot be used, and one that can, with an agent that refuses to be told.
    await writeFile(path.join(workspace, 'inbox'), canary);
    await machine.run(['pull-webhooks'], { format, env });
    await rm(path.join(workspace, 'inbox'));
    const { entries } = await machine.run(['pull-webhooks'], { format, env });
    const files = await readdir(path.join(workspace, 'inbox', 'webhooks'));
    expect(files.filter((name) => name.startsWith('url_')).length).toBe(1);
    const delivered = entries.map(({ fields }) => String(fields['delivered']));
    expect(format === 'people' || delivered.includes('1')).toBe(true);
    for (const args of [
      ['upload'],
      ['backfill'],
      ['webhooks', 'list'],
      ['sessions', 'list'],
      ['alerts', 'list'],
      ['alerts', 'test'],
      ['retry'],
    ])
      await machine.run(args, { format, env });
    endpoint.kill('SIGTERM');
    await endpoint.ended;
    await machine.run(['upload'], { format, env });
  },
  60_000,
);

test.each(formats)(
  'wrong keys and settings are named and not shown: %s',
  async (format) => {
    const { configFile, ...machine } = await machineWith({ retry });
    await machine.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 3, canary));
    await machine.nexus(['keys', 'add', 'one']);
    const endpoint = machine.start(['serve', '--port', '0']);
    const [, url = ''] = await endpoint.shows(/Listening on (http:\S+?),/);
    const wrong: Record<string, string>[] = [
      { NEXUS_ENDPOINT: url, NEXUS_API_KEY: `nxk_${canary}` },
      { NEXUS_ENDPOINT: url, NEXUS_API_KEY: `nxk\n${canary}` },
      { NEXUS_ENDPOINT: url, NEXUS_API_KEY: `nxk_é${canary}` },
      { NEXUS_ENDPOINT: url, NEXUS_API_KEY: '{"file": "/nonexistent/x"}' },
      { NEXUS_ENDPOINT: `http://user:${canary}@127.0.0.1:9` },
      { NEXUS_ENDPOINT: `http://127.0.0.1:9/?code=${canary}` },
      { NEXUS_ENDPOINT: 'http://127.0.0.1:9', NEXUS_API_KEY: canary },
      { NEXUS_KEYS: `[{"name": "${canary}"` },
      { NEXUS_KEYS: `{"${canary}": 1}` },
      { NEXUS_STORE: 'azure', NEXUS_STORE_CONNECTION_STRING: `AccountKey=${canary}` },
      {
        NEXUS_STORE: 'azure',
        NEXUS_STORE_CONNECTION_STRING: `DefaultEndpointsProtocol=http;AccountName=a;AccountKey=${Buffer.from(canary).toString('base64')};BlobEndpoint=http://127.0.0.1:9/a;TableEndpoint=http://127.0.0.1:9/a;`,
      },
      { NEXUS_HOST_NAME: '', NEXUS_STORE: canary },
    ];
    for (const env of wrong)
      await Promise.all(
        [['upload'], ['pull-webhooks'], ['status']].map(async (args) => {
          const { status } = await machine.run(args, { format, env });
          expect([3, 69, 77, 78], JSON.stringify([env, args, status])).toContain(status);
        }),
      );
    const files = [
      `{"apiKey": "${canary}"`,
      `{"apiKey": {"${canary}": 1}, "endpoint": "http://u:${canary}@h"}`,
      `{"keys": [{"name": "a", "hash": "${canary}"}]}`,
      `{"mailboxes": {"main": {"sources": {"x": {"verify": "github", "secret": ["${canary}", 5]}}}}}`,
      `"${canary}"`,
      canary,
    ];
    for (const file of files) {
      await writeFile(configFile, file, { mode: 0o600 });
      await Promise.all(
        [['upload'], ['serve'], ['alerts', 'unit-failed', 'nexus-upload.service']].map((args) =>
          machine.run(args, { format }),
        ),
      );
    }
    await chmod(configFile, 0o644);
    await machine.run(['upload'], { format });
    endpoint.kill('SIGTERM');
    await endpoint.ended;
  },
  120_000,
);
