import type { FastifyReply, FastifyRequest } from 'fastify';
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import { otherAgents, type Series } from '../jobreports.ts';
import type { MailboxStanding, Webhooks } from '../mailbox.ts';
import type { Nexus } from '../nexus.ts';
import type { Mailboxes } from '../sources.ts';
import type { Observe } from '../stores/timed.ts';

/** What this process counts of itself, for Prometheus. Nothing of it is kept over a restart. */
export interface Metrics {
  /** Counts a request when it is over, answered or not. */
  request(request: FastifyRequest, reply: FastifyReply): void;
  /** Counts what these store. */
  sessions(sessions: Nexus): Nexus;
  webhooks(webhooks: Webhooks, mailboxes: () => Mailboxes | Promise<Mailboxes>): Webhooks;
  /** Of a webhook that was not taken: `reason` is an error's code. */
  refused(source: string, reason: string): void;
  /** To be told of each operation of the store. */
  store: Observe;
  /** All of it, with what was seen of the store, in the format that is asked for. */
  text(seen: Seen, accept: string | undefined): Promise<{ type: string; body: string }>;
}

/** What a scrape has seen. Absent: it could not be seen. */
export interface Seen {
  storeUp: boolean;
  mail?: { standings: readonly MailboxStanding[]; countedAt: Date };
  jobs?: readonly Series[];
  now: Date;
}

export interface MetricsOptions {
  version: string;
  /** The kind of store, for `nexus_build_info`. */
  store?: string;
  /** Also those of process and Node that every program has. They go on as long as the process. */
  process?: boolean;
}

/** The agents that have the most pending are named, and the others summed up under a name that no agent has. */
const mostAgents = 500;

/** Sources that are in no configuration: anybody can make them up. */
const otherSource = 'other';

const requestBuckets = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const storeBuckets = [
  0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30,
];

export function openMetrics({ version, store = 'unknown', process = false }: MetricsOptions): Metrics {
  // Of its own, so that several servers in one process count apart.
  const registry = new Registry();
  const registers = [registry];
  if (process) collectDefaultMetrics({ register: registry });
  const counter = <Label extends string>(name: string, help: string, labelNames: Label[]) =>
    new Counter({ name, help, labelNames, registers });
  const gauge = <Label extends string>(name: string, help: string, labelNames: Label[]) =>
    new Gauge({ name, help, labelNames, registers });
  const histogram = <Label extends string>(
    name: string,
    help: string,
    labelNames: Label[],
    buckets: number[],
  ) => new Histogram({ name, help, labelNames, buckets, registers });

  gauge('nexus_build_info', 'What runs here; always 1.', ['version', 'store']).set({ version, store }, 1);
  const requests = counter('nexus_http_requests_total', 'Requests, by how they were answered.', [
    'method',
    'route',
    'status',
  ]);
  const durations = histogram(
    'nexus_http_request_duration_seconds',
    'From the head of a request to the end of its answer; waiting for mail counts.',
    ['method', 'route'],
    requestBuckets,
  );
  const transcripts = counter(
    'nexus_transcripts_stored_total',
    'Transcripts whose first bytes came here.',
    [],
  );
  const bytes = counter('nexus_transcript_stored_bytes_total', 'Bytes of transcripts stored here.', []);
  const received = counter('nexus_webhooks_received_total', 'Webhooks taken: accepted, or seen before.', [
    'source',
    'outcome',
  ]);
  const refusals = counter('nexus_webhooks_refused_total', 'Webhooks not taken, by the code of the error.', [
    'source',
    'reason',
  ]);
  const operations = histogram(
    'nexus_store_operation_duration_seconds',
    'Operations of the store.',
    ['operation'],
    storeBuckets,
  );
  const failures = counter(
    'nexus_store_operation_errors_total',
    'Operations that the store did not do, by the code of the error.',
    ['operation', 'code'],
  );
  const up = gauge('nexus_store_up', 'Whether the store answered this scrape in time.', []);
  const pendingItems = gauge('nexus_pending_items', 'Webhooks that no host has taken yet.', ['agent']);
  const pendingBytes = gauge('nexus_pending_bytes', 'Bytes of their bodies.', ['agent']);
  const pendingAge = gauge(
    'nexus_pending_oldest_age_seconds',
    'How long the oldest pending webhook has waited; 0 where there is none.',
    ['agent'],
  );
  const pendingAt = gauge('nexus_pending_counted_timestamp_seconds', 'When the pending were counted.', []);
  const series = new Map<string, Gauge>();

  function showMail(mail: Seen['mail'], now: Date): void {
    for (const one of [pendingItems, pendingBytes, pendingAge]) one.reset();
    pendingAt.remove();
    if (mail === undefined) return;
    pendingAt.set(mail.countedAt.getTime() / 1000);
    const most = mail.standings.toSorted((one, other) => other.pending - one.pending);
    let oldestOfOthers = 0;
    for (const [rank, { agent, pending, bytes, oldestAt }] of most.entries()) {
      const isNamed = rank < mostAgents;
      const label = { agent: isNamed ? agent : otherAgents };
      const age = oldestAt === undefined ? 0 : Math.max(0, now.getTime() - Date.parse(oldestAt)) / 1000;
      if (!isNamed) oldestOfOthers = Math.max(oldestOfOthers, age);
      pendingItems.inc(label, pending);
      pendingBytes.inc(label, bytes);
      pendingAge.set(label, isNamed ? age : oldestOfOthers);
    }
  }

  function showSeries(shown: readonly Series[]): void {
    for (const one of series.values()) one.reset();
    for (const { name, help, labels, samples } of shown) {
      const one = series.get(name) ?? new Gauge({ name, help, labelNames: labels, registers });
      series.set(name, one);
      for (const sample of samples) one.set(sample.labels, sample.value);
    }
  }

  return {
    request(request, reply) {
      const began = performance.now();
      let counted = false;
      const over = () => {
        if (counted) return;
        counted = true;
        const route = request.is404 ? 'none' : (request.routeOptions.url ?? 'none');
        const method = methods.has(request.method) ? request.method : 'other';
        const { headersSent, statusCode } = reply.raw;
        requests.inc({ method, route, status: headersSent ? `${Math.floor(statusCode / 100)}xx` : 'gone' });
        durations.observe({ method, route }, (performance.now() - began) / 1000);
      };
      reply.raw.once('finish', over);
      reply.raw.once('close', over);
    },

    sessions: (sessions) => ({
      ...sessions,
      async append(agent, transcript, offset, body, facts) {
        const length = await sessions.append(agent, transcript, offset, body, facts);
        if (offset === 0 && body.length > 0) transcripts.inc();
        bytes.inc(body.length);
        return length;
      },
    }),

    webhooks: (webhooks, mailboxes) => ({
      ...webhooks,
      async receive(delivery) {
        const { status, id } = await webhooks.receive(delivery);
        const { agent, source } = delivery;
        received.inc({ source: await sourceLabel(mailboxes, agent, source), outcome: status });
        return { status, id };
      },
    }),

    refused(source, reason) {
      refusals.inc({ source, reason });
    },

    store(operation, seconds, failure) {
      operations.observe({ operation }, seconds);
      if (failure !== undefined) failures.inc({ operation, code: failure });
    },

    async text({ storeUp, mail, jobs, now }, accept) {
      up.set(storeUp ? 1 : 0);
      showMail(mail, now);
      showSeries(jobs ?? []);
      const text = await registry.metrics();
      return wantsOpenMetrics(accept)
        ? { type: Registry.OPENMETRICS_CONTENT_TYPE, body: openMetricsOf(text) }
        : { type: Registry.PROMETHEUS_CONTENT_TYPE, body: text };
    },
  };
}

const methods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);

/** As it is configured for this agent, or the one for all others. Never throws: what is counted has been done. */
export async function sourceLabel(
  mailboxes: () => Mailboxes | Promise<Mailboxes>,
  agent: string,
  source: string | undefined,
): Promise<string> {
  const known = await (async () => mailboxes())().catch((): Mailboxes => ({}));
  const own = Object.hasOwn(known, agent) ? known[agent]?.sources : undefined;
  return own !== undefined && source !== undefined && Object.hasOwn(own, source) ? source : otherSource;
}

/** Whether OpenMetrics is named with a weight that is at least that of plain text. */
export function wantsOpenMetrics(accept: string | undefined): boolean {
  const weight = (type: string): number => {
    const weights = (accept ?? '').split(',').flatMap((range) => {
      const [name = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
      if (name !== type) return [];
      const q = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2);
      const version = parameters.find((parameter) => parameter.startsWith('version='))?.slice(8);
      const known = type !== openMetricsType || version === undefined || version.startsWith('1.');
      return known ? [q === undefined ? 1 : Number(q)] : [];
    });
    return Math.max(0, ...weights.filter(Number.isFinite));
  };
  const open = weight(openMetricsType);
  return open > 0 && open >= weight('text/plain');
}

const openMetricsType = 'application/openmetrics-text';

/**
 * The text format as OpenMetrics has it: counters are called without `_total` but in their samples, no line is empty,
 * and the end is said. prom-client's own way to write it renames the counters for good.
 */
function openMetricsOf(text: string): string {
  const counters = new Set([...text.matchAll(/^# TYPE (\S+)_total counter$/gm)].map(([, name = '']) => name));
  const lines = text.split('\n').flatMap((line) => {
    const [, word = '', name = '', rest = ''] = /^# (HELP|TYPE) (\S+)_total (.*)$/.exec(line) ?? [];
    if (counters.has(name)) return [`# ${word} ${name} ${rest}`];
    return line === '' ? [] : [line];
  });
  return `${lines.join('\n')}\n# EOF\n`;
}
