import * as z from 'zod';
import { agentIdPattern } from './agents.ts';
import { secretSchema } from './secrets.ts';

/** How a sender proves itself. `key` is a key of Nexus with the scope `webhook`; `none` lets anybody in. */
export const verifications = [
  'github',
  'stripe',
  'slack',
  'standard',
  'gitlab',
  'shopify',
  'linear',
  'telegram',
  'twilio',
  'meta',
  'hmac',
  'secret',
  'key',
  'none',
] as const;
export type Verification = (typeof verifications)[number];

const headerName = z
  .string()
  .regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$/, { error: "must be a header's name" })
  .transform((name) => name.toLowerCase());

const hmacSchema = z.lazy(() =>
  z
    .strictObject({
      header: headerName.describe('Where the signature is.'),
      algorithm: z.enum(['sha256', 'sha512', 'sha1']).default('sha256'),
      encoding: z.enum(['hex', 'base64']).default('hex'),
      prefix: z.string().max(32).default('').describe('What stands before it, like `sha256=`.'),
      signed: z
        .string()
        .max(200)
        .refine((template) => template.split('{body}').length === 2, { error: 'must contain {body}, once' })
        // One time and body must not have the same text as another time and body.
        .refine((template) => !/\{timestamp\}(\d|\{body\})|(\d|\{body\})\{timestamp\}/.test(template), {
          error:
            'must have something that is no digit between {timestamp} and {body}, like {timestamp}.{body}',
        })
        .default('{body}')
        .describe(
          'What is signed: `{body}`, and `{timestamp}` where there is one, like `{timestamp}.{body}`.',
        ),
      timestampHeader: headerName
        .optional()
        .describe('Where the time is, in seconds or milliseconds since 1970.'),
    })
    .refine(
      ({ signed, timestampHeader }) => signed.includes('{timestamp}') === (timestampHeader !== undefined),
      {
        error:
          'must be there when {timestamp} is signed, and only then: a time that is not signed proves nothing',
        path: ['timestampHeader'],
      },
    ),
);

/** What the endpoint knows of one sender of one agent. */
export const sourceSchema = z.lazy(() =>
  z
    .strictObject({
      verify: z
        .enum(verifications, { error: `must be one of ${verifications.join(', ')}` })
        .describe('How the sender proves itself.'),
      secret: z
        .union([secretSchema, z.array(secretSchema).min(1).max(4)])
        .optional()
        .describe('Or several, while one is being changed for another.'),
      verifyToken: secretSchema.optional().describe("What Meta's challenge must say."),
      hmac: hmacSchema.optional(),
      toleranceSeconds: z
        .int()
        .min(1)
        .max(86_400)
        .optional()
        .describe('How old a signed time may be. When not said: what the scheme says.'),
      url: z.url().optional().describe('The URL as the sender calls it, which Twilio signs.'),
      delivery: z
        .union([z.strictObject({ header: headerName }), z.strictObject({ json: z.string().min(1).max(200) })])
        .optional()
        .describe(
          "Where the sender's id of a delivery is: a header, a dotted path in the JSON body, or a form's field.",
        ),
      challenge: z
        .enum(['microsoft-graph'])
        .optional()
        .describe('Answer `?validationToken=` as Microsoft Graph wants it.'),
      perMinute: z.int().min(0).max(1_000_000).default(0).describe('Requests a minute; 0 is without limit.'),
      maxBytes: z
        .int()
        .min(0)
        .max(64 * 1024 * 1024)
        .optional()
        .describe('The longest body. Default 25 MiB.'),
    })
    .refine(({ verify, secret }) => ['key', 'none'].includes(verify) || secret !== undefined, {
      error: 'must have a secret for this way to verify',
      path: ['secret'],
    })
    .refine(({ verify, hmac }) => verify !== 'hmac' || hmac !== undefined, {
      error: 'must say how the HMAC is made',
      path: ['hmac'],
    }),
);
export type Source = z.output<typeof sourceSchema>;

/** What the endpoint knows of one agent's mailbox. */
export const mailboxSchema = z.lazy(() =>
  z.strictObject({
    maxItems: z.int().min(0).default(0).describe('The most items pending; 0 is without limit.'),
    maxBytes: z.int().min(0).default(0).describe('The most bytes pending; 0 is without limit.'),
    sources: z.record(z.string().min(1).max(100), sourceSchema).default({}),
  }),
);

/** Below /api/webhook/ these are the endpoint's own, as POST apart an agent's name there would be. */
const notMailboxes = new Set(['pending', 'items', 'mailboxes']);

/** By agent id in Nexus. */
export const mailboxesSchema = z.lazy(() =>
  z.record(
    z
      .string()
      .regex(agentIdPattern, { error: 'must be the id of an agent' })
      .refine((agent) => !notMailboxes.has(agent), {
        error:
          "must not be a path of the endpoint's own (pending, items, mailboxes): give this agent another name in Nexus, `nexus config set agents.ID.as NAME`",
      }),
    mailboxSchema,
  ),
);
export type Mailboxes = z.output<typeof mailboxesSchema>;
