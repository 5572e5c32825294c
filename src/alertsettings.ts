import * as z from 'zod';
import { secretSchema } from './secrets.ts';

const text = z.string({ error: 'must be text' }).min(1, { error: 'must not be empty' });

const kinds = ['agent', 'webhook', 'email', 'command'] as const;
const formats = ['json', 'slack', 'discord', 'ntfy'] as const;

/** By kind: the fields it must have, and those it may have. */
const fieldsOf: Record<(typeof kinds)[number], { must: string[]; may: string[] }> = {
  agent: { must: ['agent'], may: [] },
  webhook: { must: ['url'], may: ['format', 'token'] },
  email: { must: ['to'], may: ['from'] },
  command: { must: ['command'], may: [] },
};

// What begins with "-" would be an option of sendmail; what has a comma or a line break, more addresses.
const address = text.regex(/^[^\s,;:<>"\\()-][^\s,;:<>"\\()]*$/, { error: 'must be one e-mail address' });

/** One way by which alerts leave this machine. One flat object: `nexus config list` finds its secrets by that. */
export const channelSchema = z.lazy(() =>
  z
    .strictObject({
      kind: z.enum(kinds, { error: `must be one of ${kinds.join(', ')}` }),
      agent: text.optional().describe("OpenClaw's id of the agent that is told."),
      url: secretSchema.optional(),
      format: z.enum(formats, { error: `must be one of ${formats.join(', ')}` }).optional(),
      token: secretSchema.optional().describe('Sent as `Authorization: Bearer`.'),
      to: address.optional(),
      from: address.optional(),
      command: z.array(text).min(1, { error: 'must name a program' }).optional(),
    })
    .superRefine((channel, context) => {
      const { must, may } = fieldsOf[channel.kind];
      const there = Object.entries(channel).flatMap(([name, value]) => (value === undefined ? [] : [name]));
      for (const name of must.filter((name) => !there.includes(name)))
        context.addIssue({
          code: 'custom',
          path: [name],
          message: `must be said where kind is ${channel.kind}`,
        });
      for (const name of there.filter((name) => ![...must, ...may, 'kind'].includes(name)))
        context.addIssue({
          code: 'custom',
          path: [name],
          message: `must not be said where kind is ${channel.kind}`,
        });
    }),
);
export type ChannelSettings = z.output<typeof channelSchema>;

function whole(least: number, most: number) {
  const error = `must be a whole number from ${least} to ${most}`;
  return z.int({ error }).min(least, { error }).max(most, { error });
}

/** Who is told when something is not well, and when. */
export const alertsSchema = z
  .strictObject({
    channels: z
      .array(channelSchema, { error: 'must be a list of channels' })
      .max(20, { error: 'must hold at most 20 channels' })
      .default([])
      .describe(
        'Where alerts go, to each of: `{"kind": "webhook", "url", "format": "json" | "slack" | "discord" | "ntfy", "token"}`, `{"kind": "email", "to", "from"}` by the local sendmail, `{"kind": "agent", "agent"}` by OpenClaw, `{"kind": "command", "command": ["program", …]}` with JSON on its stdin. `url` and `token` may say where the secret is, like `{"credential": "slack"}`.',
      ),
    afterFailures: whole(1, 40)
      .default(3)
      .describe(
        'How often in a row a job has failed when an alert is sent; one more follows when it works again.',
      ),
    riskHours: whole(1, 720)
      .default(24)
      .describe('An alert counts the sessions that OpenClaw will delete within so many hours.'),
  })
  .prefault({});
export type AlertSettings = z.output<typeof alertsSchema>;

/** The jobs that end, and can tell a monitor how. */
export const attendedJobs = ['backfill', 'upload', 'pull-webhooks', 'status'] as const;
export type AttendedJob = (typeof attendedJobs)[number];

export const heartbeatsSchema = z
  .partialRecord(z.enum(attendedJobs), secretSchema, {
    error: `must be an object of URLs by job: ${attendedJobs.join(', ')}`,
  })
  .default({})
  .describe(
    'By job (`upload`, `pull-webhooks`, `backfill`, `status`): the URL of a healthchecks-compatible monitor, or where that secret is. It is told of start, success and failure.',
  );

/** How often, over at least a day, an item fails before it is set aside. */
export const setAsideAfterSchema = whole(1, 100_000)
  .default(10)
  .describe(
    'How often, over at least a day, a transcript or an item fails before it is set aside until `nexus retry` or until it changes. Outages do not count.',
  );
