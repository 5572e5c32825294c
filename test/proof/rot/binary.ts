import { readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Made } from './made.ts';
import { digestOf, nothingSeen, type Observed } from './observe.ts';

/** The same as `observe`, through the built binary: serve, pull-webhooks, usage, and `backfill --verify` at last. */
export async function observeBinary(made: Made): Promise<{ seen: Observed; verified: Observed }> {
  const seen = nothingSeen();
  await observeServe(made, seen);
  // It reads what is stored now.
  await rm(path.join(made.world.dataDir, 'usage'), { recursive: true, force: true });
  const used = await made.world.run(['usage', '--json']);
  const answer: { complete?: boolean; totals?: unknown } = used.status === 0 ? JSON.parse(used.stdout) : {};
  if (answer.complete === true) seen.said.set('usage', JSON.stringify(answer.totals));
  else seen.named.push(`usage: ${used.stderr}`);
  const pulled = await made.world.run(['pull-webhooks', '--json']);
  if (pulled.status !== 0) seen.named.push(`pull-webhooks: ${pulled.stdout}${pulled.stderr}`);
  for (const name of (await readdir(made.inbox).catch(() => [])).filter((one) => one.endsWith('.json')))
    seen.bytes.set(`inbox ${name}`, digestOf(await readFile(path.join(made.inbox, name))));
  const verified = nothingSeen();
  const ran = await made.world.run(['backfill', '--verify', '--json']);
  if (ran.status !== 0) verified.named.push(`backfill: ${ran.stdout}${ran.stderr}`);
  for (const { status, stderr } of [used, pulled, ran])
    if (status === null || status === 1) seen.unexpected.push(`ended with ${status}: ${stderr}`);
  return { seen, verified };
}

async function observeServe(made: Made, seen: Observed): Promise<void> {
  let serving: Awaited<ReturnType<Made['world']['serve']>>;
  try {
    serving = await made.world.serve();
  } catch (error) {
    seen.named.push(String(error));
    return;
  }
  const get = async (what: string) => {
    const answer = await fetch(`${serving.url}${what}`, { headers: { 'x-functions-key': made.key } });
    const broken = answer.headers.get('nexus-broken');
    if (broken !== null) seen.named.push(broken);
    // Cut short, it is no success.
    const body = await answer.bytes().catch(() => undefined);
    if (answer.ok && body !== undefined) return body;
    seen.named.push(
      `${what}: ${answer.status} ${body === undefined ? 'cut short' : Buffer.from(body).toString()}`,
    );
    return undefined;
  };
  try {
    for (const id of made.transcripts) {
      const body = await get(`/api/sessions/main/${id}`);
      if (body !== undefined) seen.bytes.set(`main/${id}`, digestOf(body));
    }
    const listed = async (what: string, field: string, name: (one: Record<string, unknown>) => string) => {
      const body = await get(what);
      if (body === undefined) return;
      const page: Record<string, Record<string, unknown>[]> = JSON.parse(Buffer.from(body).toString());
      for (const one of page[field] ?? []) seen.said.set(`${what} ${name(one)}`, JSON.stringify(one));
    };
    await listed('/api/sessions', 'sessions', (one) => String(one['transcript']));
    await listed('/api/webhook/items', 'items', (one) => String(one['id']));
    await listed('/api/webhook/pending?agentId=main', 'main', (one) => String(one['id']));
  } finally {
    serving.kill('SIGTERM');
    await serving.ended;
  }
}
