import { NexusError } from '../errors.ts';
import { nearest } from '../nearest.ts';
import { type Verification, verifications } from '../sources.ts';

/** What an operator enters at a sender of one kind. */
export interface Way {
  /** Whose it is, for people. */
  sender: string;
  /**
   * Who makes the secret: `ours` is entered at the sender, `theirs` comes from there and is said with
   * `--secret-from`, `none` needs no entry in the configuration, or no secret.
   */
  secret: 'ours' | 'theirs' | 'none';
  /** The header that proves it. */
  header?: string;
  /** What the sender calls its secret, and where it shows it; of `theirs`. */
  found?: string;
  /** What it calls the URL, and the secret of ours. */
  urlField: string;
  secretField?: string;
  /** What else is entered there. */
  others: readonly (readonly [field: string, value: string])[];
}

const events = 'those that the agent shall hear of';

/** By the way that a sender proves itself. */
export const ways: Record<Verification, Way> = {
  github: {
    sender: 'GitHub',
    secret: 'ours',
    header: 'x-hub-signature-256',
    urlField: 'Payload URL',
    secretField: 'Secret',
    others: [
      ['Content type', 'application/json'],
      ['Events', events],
    ],
  },
  stripe: {
    sender: 'Stripe',
    secret: 'theirs',
    header: 'stripe-signature',
    found: 'the signing secret (whsec_…) of the endpoint, which Stripe shows once it is added',
    urlField: 'Endpoint URL',
    others: [['Events', events]],
  },
  slack: {
    sender: 'Slack',
    secret: 'theirs',
    header: 'x-slack-signature',
    found:
      "the signing secret, under Basic Information of the app; set it first, as Slack's challenge is signed",
    urlField: 'Request URL',
    others: [['Bot events', events]],
  },
  standard: {
    sender: 'the sender',
    secret: 'theirs',
    header: 'webhook-signature',
    found: 'the signing secret (whsec_…) of the endpoint, which the sender shows once it is added',
    urlField: 'Endpoint URL',
    others: [['Events', events]],
  },
  gitlab: {
    sender: 'GitLab',
    secret: 'ours',
    header: 'x-gitlab-token',
    urlField: 'URL',
    secretField: 'Secret token',
    others: [['Trigger', events]],
  },
  shopify: {
    sender: 'Shopify',
    secret: 'theirs',
    header: 'x-shopify-hmac-sha256',
    found: "the app's client secret, or the key that Settings > Notifications > Webhooks shows",
    urlField: 'URL',
    others: [['Format', 'JSON']],
  },
  linear: {
    sender: 'Linear',
    secret: 'theirs',
    header: 'linear-signature',
    found: "the webhook's signing secret, which Linear shows once it is made",
    urlField: 'URL',
    others: [['Data change events', events]],
  },
  telegram: {
    sender: 'Telegram',
    secret: 'ours',
    header: 'x-telegram-bot-api-secret-token',
    urlField: 'setWebhook url',
    secretField: 'setWebhook secret_token',
    others: [['setWebhook allowed_updates', events]],
  },
  twilio: {
    sender: 'Twilio',
    secret: 'theirs',
    header: 'x-twilio-signature',
    found: "the account's auth token, in the Twilio console",
    urlField: 'Webhook URL, letter by letter',
    others: [['Method', 'HTTP POST']],
  },
  meta: {
    sender: 'Meta',
    secret: 'theirs',
    header: 'x-hub-signature-256',
    found:
      "the app's secret, under App settings > Basic; set it first, as Meta asks for the verify token at once",
    urlField: 'Callback URL',
    secretField: 'Verify token',
    others: [['Webhook fields', events]],
  },
  hmac: {
    sender: 'the sender',
    secret: 'ours',
    urlField: 'URL',
    secretField: 'Secret',
    others: [],
  },
  secret: {
    sender: 'the sender',
    secret: 'ours',
    header: 'x-webhook-secret',
    urlField: 'URL',
    secretField: 'Header X-Webhook-Secret',
    others: [],
  },
  key: {
    sender: 'the sender',
    secret: 'none',
    urlField: 'URL, which holds its key',
    others: [['Method', 'POST']],
  },
  none: {
    sender: 'the sender',
    secret: 'none',
    urlField: 'URL',
    others: [['Method', 'POST']],
  },
};

/** Senders by the name that their source is usually given. */
const wellKnown: Record<string, Verification> = {
  github: 'github',
  // They sign as GitHub does, for those who moved from there.
  gitea: 'github',
  forgejo: 'github',
  stripe: 'stripe',
  slack: 'slack',
  gitlab: 'gitlab',
  shopify: 'shopify',
  linear: 'linear',
  telegram: 'telegram',
  twilio: 'twilio',
  meta: 'meta',
  facebook: 'meta',
  instagram: 'meta',
  messenger: 'meta',
  whatsapp: 'meta',
  svix: 'standard',
  clerk: 'standard',
  resend: 'standard',
  openai: 'standard',
  replicate: 'standard',
  render: 'standard',
  polar: 'standard',
};

/** How a source of this name proves itself, when nobody says: `github`, also as `github-docs`. */
export function wayOf(source: string): Verification | undefined {
  const [first = ''] = source.toLowerCase().split(/[-_.: ]/, 1);
  return Object.hasOwn(wellKnown, first) ? wellKnown[first] : undefined;
}

/** The way that `--verify` names. */
export function wayNamed(name: string): Verification {
  const way = verifications.find((one) => one === name);
  if (way !== undefined) return way;
  const near = nearest(name, verifications);
  throw new NexusError('usage', `${JSON.stringify(name)} is no way to verify a sender.`, {
    hint: near === undefined ? `It is one of ${verifications.join(', ')}.` : `Did you mean ${near}?`,
  });
}
