import type { SystemdMachine } from './machine.ts';

/** What somebody on the machine itself was sent. */
export interface Taken {
  port: number;
  path: string;
  authorization: string | undefined;
  body: Record<string, unknown>;
}

/**
 * Stands on loopback ports of the machine, keeps what it is sent and answers as OpenClaw's hooks do when the agent has
 * finished; who sends alerts does not read the answer.
 */
export async function openDoors(machine: SystemdMachine, ports: number[]): Promise<() => Promise<Taken[]>> {
  await machine.sh(`cat > /opt/doors.cjs <<'END'
    const { appendFileSync, writeFileSync } = require('node:fs');
    for (const port of process.argv.slice(2).map(Number))
      require('node:http').createServer((request, response) => {
        const parts = [];
        request.on('data', (part) => parts.push(part));
        request.on('end', () => {
          const { url: path, headers: { authorization } } = request;
          const body = JSON.parse(Buffer.concat(parts).toString());
          appendFileSync('/opt/taken', JSON.stringify({ port, path, authorization, body }) + '\\n');
          response.setHeader('content-type', 'application/json');
          response.end('{"ok":true,"runId":"run","completion":{"status":"ok"}}');
        });
      }).listen(port, '127.0.0.1', () => appendFileSync('/opt/taken', ''));\nEND
    systemd-run -q --unit=doors /opt/node/node /opt/doors.cjs ${ports.join(' ')}`);
  await machine.until(async () => (await machine.run(['test', '-e', '/opt/taken'])).status === 0);
  return async () => {
    const lines = (await machine.sh('cat /opt/taken')).split('\n').filter(Boolean);
    return lines.map((line) => JSON.parse(line));
  };
}

/** GitHub, on the machine itself: sends to main's mailbox, and resolves with the endpoint's status. */
export async function openSender(
  machine: SystemdMachine,
  secret: string,
): Promise<(delivery: string, body: string) => Promise<number>> {
  await machine.sh(`cat > /opt/send.cjs <<'END'
    const [url, secret, delivery, body] = process.argv.slice(2);
    const hex = require('node:crypto').createHmac('sha256', secret).update(body).digest('hex');
    const headers = { 'x-hub-signature-256': 'sha256=' + hex, 'x-github-delivery': delivery, 'x-github-event': 'push', 'content-type': 'application/json' };
    fetch(url, { method: 'POST', headers, body }).then((answer) => console.log(answer.status));\nEND`);
  return async (delivery: string, body: string) =>
    Number(
      await machine.must([
        '/opt/node/node',
        '/opt/send.cjs',
        'http://127.0.0.1:7788/api/webhook/main?source=github',
        secret,
        delivery,
        body,
      ]),
    );
}
