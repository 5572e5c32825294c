import { mkdir, readdir, readFile, rename } from 'node:fs/promises';
import path from 'node:path';
import { failedWith } from '../../../src/errors.ts';
import type { Webhooks } from '../../../src/mailbox.ts';
import type { Broken } from '../part.ts';
import type { Sent } from './sender.ts';

/** The agent whose inbox it is: reads its files, takes some away, and knows each that it ever saw. */
export interface Recipient {
  /** Looks through the inbox once; moves about this share of what it reads away. */
  look(share: number): Promise<void>;
  /** How many files are in the hidden directory where they are written. */
  temps(): Promise<number>;
  /** Ids that are or were in the inbox. */
  seen: ReadonlySet<string>;
  /** The files that are there now, as `look` found them. */
  there: ReadonlySet<string>;
  /**
   * Compares all that the sender was told is stored with the store and the inbox; `whole`, the body of each, history
   * included. Answers how many these are.
   */
  check(webhooks: Webhooks, options: { whole: boolean }): Promise<number>;
}

export interface RecipientOptions {
  agent: string;
  workspace: string;
  acknowledged: ReadonlyMap<string, Sent>;
  random: () => number;
  broken: (one: Broken) => void;
  again: () => string;
}

export async function openRecipient(options: RecipientOptions): Promise<Recipient> {
  const { agent, workspace, acknowledged, random, again } = options;
  const inbox = path.join(workspace, 'inbox', 'webhooks');
  const done = path.join(workspace, 'done');
  await mkdir(done, { recursive: true });
  const seen = new Set<string>();
  const there = new Set<string>();
  const taken = new Set<string>();
  const compared = new Set<string>();
  /** What was not acknowledged to its sender yet when it was read. */
  const unproven = new Map<string, string>();
  const say = (what: string): void => options.broken({ what, again: again() });
  /** Of many that are broken alike the first is named. */
  const sayOf = (ids: readonly string[], what: string): void => {
    if (ids.length > 0) say(`${ids[0]}${ids.length === 1 ? '' : ` and ${ids.length - 1} more`}: ${what}`);
  };

  async function look(share: number): Promise<void> {
    const names = await namesIn(inbox);
    const here = new Set<string>();
    for (const name of names.filter((one) => !one.startsWith('.'))) {
      const id = name.replace(/^github_/, '').replace(/\.json$/, '');
      here.add(id);
      if (taken.has(id)) say(`${name} is in the inbox again after the agent took it`);
      if (!seen.has(id)) await read(id, name);
      if (random() >= share) continue;
      await rename(path.join(inbox, name), path.join(done, name));
      taken.add(id);
      here.delete(id);
    }
    for (const id of there)
      if (!here.has(id) && !taken.has(id))
        say(`${id} was in the inbox and is gone, and the agent did not take it`);
    there.clear();
    for (const id of here) there.add(id);
  }

  async function read(id: string, name: string): Promise<void> {
    seen.add(id);
    unproven.set(id, await readFile(path.join(inbox, name), 'utf8'));
    prove();
  }

  /** Compares what was read with what was sent, as soon as the sender knows which that is. */
  function prove(): void {
    for (const [id, text] of unproven) {
      const sent = acknowledged.get(id);
      if (sent === undefined) continue;
      unproven.delete(id);
      if (!text.endsWith(`\n  "payload": ${payloadTextOf(sent)}\n}\n`))
        say(`${id} is in the inbox with another payload than was sent: ${text.slice(-200)}`);
    }
  }

  async function check(webhooks: Webhooks, { whole }: { whole: boolean }): Promise<number> {
    prove();
    const known = [...acknowledged.keys()];
    const pending = new Set<string>();
    for await (const { id } of webhooks.list({ agent, state: 'pending' })) pending.add(id);
    const missing = known.filter((id) => !seen.has(id) && !pending.has(id));
    // A pull may have taken it out of pending since the inbox was read.
    if (missing.length > 0) await look(0);
    sayOf(
      missing.filter((id) => !seen.has(id)),
      'acknowledged, and neither pending nor in the inbox',
    );
    if (whole) {
      const states = new Map<string, number>();
      for await (const { id } of webhooks.list({ agent })) states.set(id, (states.get(id) ?? 0) + 1);
      sayOf(
        known.filter((id) => states.get(id) !== 1),
        'not once in the mailbox and its history',
      );
      sayOf(
        [...unproven.keys()].filter((id) => !states.has(id)),
        'in the inbox and in no mailbox',
      );
    }
    for (const id of known) {
      if (!whole && compared.has(id)) continue;
      compared.add(id);
      const stored = await webhooks.body(id).catch((error: unknown) => {
        if (!failedWith(error, 'not_found', 'corrupt')) throw error;
        say(`${id} was acknowledged and cannot be read: ${error.message}`);
      });
      if (stored?.body.equals(acknowledged.get(id)?.body ?? Buffer.alloc(0)) === false)
        say(`${id} is stored with other bytes than were sent`);
    }
    return known.length;
  }

  const temps = async (): Promise<number> =>
    (await namesIn(path.join(inbox, '.incoming'))).filter((name) => name.endsWith('.tmp')).length;
  return { look, temps, seen, there, check };
}

function payloadTextOf({ contentType, body }: Sent): string {
  if (contentType === 'application/json') return body.toString();
  return JSON.stringify(body.toString(contentType === 'text/plain' ? 'utf8' : 'base64'));
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
}
