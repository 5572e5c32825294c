import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Config, configSchema } from '../../src/config.ts';
import { type Deliveries, deliveriesFile, openDeliveries } from '../../src/jobs/deliveries.ts';
import { type Inbox, openInbox } from '../../src/jobs/inbox.ts';
import { type PullOutcome, runPull } from '../../src/jobs/pull.ts';
import { followPull, type FollowTimes } from '../../src/jobs/pullfollow.ts';
import { nobody } from '../../src/jobs/pullreport.ts';
import type { PullSurroundings, Tell } from '../../src/jobs/pullsite.ts';
import type { Delivery, Mailbox, Webhooks } from '../../src/mailbox.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import { openWebhooks } from '../../src/webhooks.ts';

/** A machine with agents that have workspaces, and an embedded store that webhooks come into. */
export interface PullHost {
  root: string;
  config(over?: Partial<Config>): Config;
  workspace(agent?: string): string;
  inbox(agent?: string): string;
  /** Over the same store as the job's. */
  webhooks: Webhooks;
  /** Answers the id. */
  receive(over?: Partial<Delivery>): Promise<string>;
  pull(options?: PullHostOptions): Promise<PullOutcome['report']>;
  outcome(options?: PullHostOptions): Promise<PullOutcome>;
  follow(
    options: PullHostOptions & { signal: AbortSignal; times?: Partial<FollowTimes> },
  ): Promise<PullOutcome['report']>;
  /** Names of the files in an inbox. */
  files(agent?: string): Promise<string[]>;
  /** What a file of the inbox holds. */
  read(name: string, agent?: string): Promise<unknown>;
  /** What is in the hidden directory, but the note of its ledger. */
  temps(agent?: string): Promise<string[]>;
  pending(agent?: string): Promise<string[]>;
  deliveries(): Deliveries;
  remove(): Promise<void>;
}

export interface PullHostOptions {
  agents?: string[];
  config?: Partial<Config>;
  signal?: AbortSignal;
  now?: () => Date;
  warn?: (message: string) => void;
  tell?: Tell;
  ended?: PullSurroundings['ended'];
  confirm?: PullSurroundings['confirm'];
  reconcile?: PullSurroundings['reconcile'];
  /** Another than the embedded store's. */
  open?: () => Promise<Mailbox>;
  /** Between the job and what it uses, to fail or to watch. */
  mailbox?: (mailbox: Mailbox) => Mailbox;
  inbox?: (inbox: Inbox) => Inbox;
  ledger?: (deliveries: Deliveries) => Deliveries;
}

export async function makePullHost(agents: string[] = ['main']): Promise<PullHost> {
  const root = await mkdtemp(path.join(tmpdir(), 'nexus-pull-'));
  const stateDir = path.join(root, 'openclaw');
  const dataDir = path.join(root, 'data');
  const workspace = (agent = 'main') =>
    path.join(stateDir, agent === 'main' ? 'workspace' : `workspace-${agent}`);
  const inbox = (agent?: string) => path.join(workspace(agent), 'inbox', 'webhooks');
  for (const agent of agents) {
    await mkdir(path.join(stateDir, 'agents', agent), { recursive: true });
    await mkdir(workspace(agent), { recursive: true });
  }
  const storeDir = path.join(dataDir, 'store');
  const webhooks = openWebhooks(await openLocalStore(storeDir));
  const config = (over: Partial<Config> = {}) =>
    configSchema.parse({ dataDir, host: 'box', notify: { by: 'none' }, ...over });

  function around(options: PullHostOptions): PullSurroundings {
    const through = options.mailbox ?? ((mailbox: Mailbox) => mailbox);
    return {
      config: config(options.config),
      env: { OPENCLAW_STATE_DIR: stateDir, HOME: root },
      openMailbox: async () =>
        through(await (options.open?.() ?? openLocalStore(storeDir).then((store) => openWebhooks(store)))),
      signal: options.signal ?? new AbortController().signal,
      now: options.now ?? (() => new Date()),
      warn: options.warn ?? (() => undefined),
      progress: () => undefined,
      ...(options.ended === undefined ? {} : { ended: options.ended }),
      tell: options.tell ?? (() => Promise.resolve({ notified: nobody(), failed: [] })),
      confirm: options.confirm,
      reconcile: options.reconcile,
      openInbox: async (of, usedBefore) =>
        (options.inbox ?? ((one: Inbox) => one))(await openInbox(of, usedBefore)),
      openDeliveries: (file) => (options.ledger ?? ((one: Deliveries) => one))(openDeliveries(file)),
    };
  }

  async function list(directory: string): Promise<string[]> {
    const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    });
    return names.filter((name) => name !== '.incoming').sort();
  }

  const outcome = (options: PullHostOptions = {}) =>
    runPull({ agents: options.agents ?? [] }, around(options));
  return {
    root,
    config,
    workspace,
    inbox,
    webhooks,
    async receive(over = {}) {
      const { id } = await webhooks.receive({
        agent: 'main',
        source: 'github',
        contentType: 'application/json',
        headers: { 'x-github-event': 'push' },
        body: Buffer.from('{"ref":"refs/heads/main"}'),
        ...over,
      });
      return id;
    },
    outcome,
    pull: async (options) => (await outcome(options)).report,
    async follow({ times, ...options }) {
      const short = { waitMs: 200, togetherMs: 50, againMs: 300, ...times };
      const request = { agents: options.agents ?? [] };
      return (await followPull(request, around(options), () => undefined, short)).report;
    },
    files: (agent) => list(inbox(agent)),
    async read(name, agent) {
      return JSON.parse(await readFile(path.join(inbox(agent), name), 'utf8')) as unknown;
    },
    async temps(agent) {
      const names = await list(path.join(inbox(agent), '.incoming'));
      return names.filter((name) => name !== 'ledger');
    },
    async pending(agent = 'main') {
      return (await webhooks.pending({ agents: [agent], limit: 1000 })).items.map(({ id }) => id);
    },
    deliveries: () => openDeliveries(deliveriesFile(config())),
    async remove() {
      await webhooks.close();
      await rm(root, { recursive: true, force: true });
    },
  };
}
