// A machine with a store of its own, and calls that cost what a test says.
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { openSessions } from '../../src/sessions.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import type { Store } from '../../src/stores/store.ts';
import { type Machine, newMachine } from '../cli/nexus.ts';

export interface Spent {
  /** ISO 8601. */
  at?: string;
  model?: string;
  provider?: string;
  tokens?: number;
  /** Dollars; absent: none is recorded. */
  cost?: number;
}

let entries = 0;

/** One transcript with these calls, its header first. */
export function transcriptOf(calls: readonly Spent[]): string {
  const lines: object[] = [{ type: 'session', version: 3, id: 'x', timestamp: calls[0]?.at ?? timeNow() }];
  for (const { at = timeNow(), model = 'opus', provider = 'anthropic', tokens = 100, cost } of calls)
    lines.push({
      type: 'message',
      id: (++entries).toString(16).padStart(8, '0'),
      timestamp: at,
      message: {
        role: 'assistant',
        provider,
        model,
        content: [],
        usage: {
          input: tokens,
          output: 0,
          cacheRead: 0,
          cacheWrite: 0,
          ...(cost === undefined ? {} : { cost: { total: cost } }),
        },
      },
    });
  return lines.map((line) => `${JSON.stringify(line)}\n`).join('');
}

function timeNow(): string {
  return new Date().toISOString();
}

/** Appends to a transcript what a host would ship. */
export async function spend(
  store: Store,
  agent: string,
  session: string,
  calls: readonly Spent[],
  about: { trigger?: string; sessionKey?: string; host?: string } = {},
  now?: () => Date,
): Promise<void> {
  const nexus = openSessions(store, now);
  const length = (await nexus.stat(agent, session))?.length ?? 0;
  await nexus.append(agent, session, length, Buffer.from(transcriptOf(calls)), { complete: false, about });
}

export interface SpendingMachine extends Machine {
  /** In the machine's own store, which is closed again. */
  spend: (
    agent: string,
    session: string,
    calls: readonly Spent[],
    about?: { trigger?: string; sessionKey?: string; host?: string },
  ) => Promise<void>;
  configure: (settings: object) => Promise<void>;
}

export async function newSpendingMachine(): Promise<SpendingMachine> {
  const machine = await newMachine();
  return {
    ...machine,
    async spend(...given) {
      const store = await openLocalStore(path.join(machine.dataDir, 'store'));
      await spend(store, ...given);
      await store.close();
    },
    async configure(settings) {
      await mkdir(path.dirname(machine.configFile), { recursive: true });
      await writeFile(machine.configFile, JSON.stringify({ host: 'box', ...settings }), { mode: 0o600 });
    },
  };
}
