import { hostname } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import * as z from 'zod';
import { agentIdPattern } from './agents.ts';
import { alertsSchema, heartbeatsSchema, setAsideAfterSchema } from './alertsettings.ts';
import { budgetsSchema } from './budgetsettings.ts';
import {
  configPath,
  type Environment,
  homeOf,
  isSettings,
  readSettings,
  type Settings,
} from './configfile.ts';
import { NexusError } from './errors.ts';
import { mask, propertiesOf, schemaAt } from './jsonschema.ts';
import { keySchema } from './keys.ts';
import { formats, levels, logIn, type LogSettings } from './logline.ts';
import { nearest } from './nearest.ts';
import { maxChunkBytes } from './nexus.ts';
import { putioSchema } from './putiosettings.ts';
import { resolveSecret, type Secret, secretSchema } from './secrets.ts';
import { valueAt } from './settings.ts';
import { pricesSchema } from './prices.ts';
import { mailboxesSchema } from './sources.ts';

/** A whole number within bounds, refused in words that name them. */
function whole(least: number, most = Number.MAX_SAFE_INTEGER) {
  const error =
    most === Number.MAX_SAFE_INTEGER
      ? `must be a whole number, at least ${least}`
      : `must be a whole number from ${least} to ${most}`;
  return z.int({ error }).min(least, { error }).max(most, { error });
}

const text = z.string({ error: 'must be text' }).min(1, { error: 'must not be empty' });

const directory = text.refine((path) => isAbsolute(path), {
  error: 'must be an absolute path, or begin with "~/"',
});

const file = directory.refine((path) => path.endsWith('.prom'), { error: 'must end in ".prom"' });

const endpoint = text.refine(isEndpoint, {
  error: 'must be an http or https URL without user, query or fragment, like "https://nexus.example.com"',
});

/** How an agent is told of its mail. `auto`: by hooks where OpenClaw has them on, else by its command line. */
const notifications = ['auto', 'hooks', 'cli', 'none'] as const;
export type Notification = (typeof notifications)[number];

const agent = z.lazy(() =>
  z.strictObject({
    as: text
      .regex(agentIdPattern, {
        error: 'must be letters, digits, "_" and "-", at most 64, beginning with a letter or digit',
      })
      .optional(),
    skip: z.boolean({ error: 'must be true or false' }).optional(),
    notify: z.enum(notifications, { error: `must be one of ${notifications.join(', ')}` }).optional(),
  }),
);

/** The configuration: type, defaults, validation and documentation of every setting. */
export const configSchema = z.strictObject({
  dataDir: directory.describe(
    'Where the embedded store and the ledger lie. When not said: `$XDG_DATA_HOME/nexus`, else `~/.local/share/nexus`.',
  ),
  endpoint: endpoint
    .optional()
    .describe(
      'The `nexus serve` that jobs ship to. When not said, they use the embedded store in `dataDir`.',
    ),
  apiKey: secretSchema.optional().describe('The key that `endpoint` wants.'),
  host: text
    .max(200, { error: 'must have at most 200 characters' })
    .describe("This machine's name in the archive. When not said: the host name."),
  openclaw: z
    .strictObject({
      stateDir: directory
        .optional()
        .describe("OpenClaw's state directory. When not said: found by OpenClaw's own rules."),
    })
    .prefault({}),
  agents: z
    .record(z.string(), agent)
    .default({})
    .describe(
      'By OpenClaw agent id: `as` is its id in Nexus where that shall be another, `skip: true` leaves it alone, `notify` is how it is told of its mail.',
    ),
  notify: z
    .strictObject({
      by: z
        .enum(notifications, { error: `must be one of ${notifications.join(', ')}` })
        .default('auto')
        .describe(
          'How agents are told of their mail: `hooks` (POST /hooks/agent), `cli` (`openclaw agent`), `none`, or `auto`: hooks where openclaw.json has them on, else the command line.',
        ),
      hooksUrl: endpoint
        .optional()
        .describe("OpenClaw's hooks. When not said: this machine, by openclaw.json's port and path."),
      hooksToken: secretSchema.optional().describe("When not said: openclaw.json's."),
      waitSeconds: whole(0, 3600)
        .default(120)
        .describe('How long to wait for an agent to finish with what it was told.'),
      inlineBytes: whole(0, 200_000)
        .default(65_536)
        .describe('How much of payloads a message carries to an agent that cannot see its inbox.'),
    })
    .prefault({}),
  afterUpload: z
    .enum(['archive', 'keep'], { error: 'must be "archive" or "keep"' })
    .default('archive')
    .describe(
      'What becomes of a completed transcript file once it is stored and compared: moved to `archive/` beside it, or kept where it is.',
    ),
  settleMinutes: whole(0, 10_080)
    .default(10)
    .describe('How long an active transcript is quiet before its new tail is shipped.'),
  archiveAfterHours: whole(0, 8_760)
    .default(24)
    .describe('How long a plain file is complete and untouched before it is moved to `archive/`.'),
  maxTranscriptBytes: whole(0)
    .default(0)
    .describe('Transcripts larger than this are skipped and reported; 0 ships every size.'),
  concurrency: whole(1, 64).default(8).describe('How many transcripts are shipped at once.'),
  chunkBytes: whole(1, maxChunkBytes)
    .default(4 * 1024 * 1024)
    .describe('Bytes of a transcript in one request, at most 10 MiB.'),
  retry: z
    .strictObject({
      tries: whole(1, 100).default(6).describe('How often a request is tried before its item has failed.'),
      baseMs: whole(0, 3_600_000).default(500).describe('The longest first pause between two tries, in ms.'),
      maxMs: whole(0, 3_600_000).default(30_000).describe('The longest pause between two tries, in ms.'),
    })
    .prefault({}),
  serve: z
    .strictObject({
      host: text
        .default('127.0.0.1')
        .describe('The address that `nexus serve` listens on. Another than loopback needs a key.'),
      port: whole(0, 65_535)
        .default(7788)
        .describe('The port that `nexus serve` listens on; 0 takes a free one.'),
      url: endpoint
        .optional()
        .describe('What services outside call it by, as `nexus webhooks url` prints it.'),
      trustProxy: whole(0, 10)
        .default(0)
        .describe(
          "How many proxies stand before `nexus serve`. A caller's address is then the entry of `X-Forwarded-For` that the outermost of them wrote; 0 believes no such header, nor `X-Forwarded-Host` and `X-Forwarded-Proto`, by which Twilio's signature is checked where its source has no `url`. On App Service and Container Apps: 1.",
        ),
    })
    .prefault({}),
  keys: z
    .array(keySchema, { error: 'must be a list of keys' })
    .refine((keys) => new Set(keys.map(({ name }) => name)).size === keys.length, {
      error: 'must not hold two keys of one name',
    })
    .default([])
    .describe(
      'Who may call `nexus serve`; written by `nexus keys add`, which keeps only hashes. Those of the environment, a JSON list, are added to those of the file.',
    ),
  mailboxes: mailboxesSchema
    .default({})
    .describe(
      'By agent id in Nexus: `sources` and how each proves itself, and what may be pending at most. Written by `nexus webhooks url`. Those of the environment, JSON too, lie over those of the file.',
    ),
  putio: putioSchema,
  alerts: alertsSchema,
  heartbeats: heartbeatsSchema,
  setAsideAfter: setAsideAfterSchema,
  prices: pricesSchema,
  budgets: budgetsSchema,
  log: z
    .strictObject({
      level: z
        .enum(levels, { error: `must be one of ${levels.join(', ')}` })
        .default('info')
        .describe('How much goes to stderr: `error`, `warn`, `info` or `debug`; `--log-level`.'),
      format: z
        .enum(formats, { error: `must be one of ${formats.join(', ')}` })
        .default('text')
        .describe(
          '`text`: sentences for people, and `key=value` under journald; `json`: one object a line; `--log-format`.',
        ),
    })
    .prefault({}),
  metrics: z
    .strictObject({
      textfile: file
        .optional()
        .describe(
          "A file, ending in `.prom`, that every job writes for Prometheus' node_exporter (`--collector.textfile.directory`). When not said: none.",
        ),
    })
    .prefault({}),
  store: z
    .strictObject({
      kind: z
        .enum(['local', 'azure'], { error: 'must be "local" or "azure"' })
        .default('local')
        .describe(
          'What holds the data: `local` is files and SQLite in `dataDir`, `azure` an Azure storage account.',
        ),
      connectionString: secretSchema
        .optional()
        .describe('Of the storage account, with its key or a shared access signature.'),
      account: text
        .regex(/^[a-z0-9]{3,24}$/, { error: 'must be 3 to 24 small letters and digits' })
        .optional()
        .describe(
          'Name of the storage account, where there is no connection string: used as whoever this machine is to Azure (managed identity, workload identity, `az login`).',
        ),
      endpointSuffix: text
        .regex(/^[a-z0-9.-]+$/, { error: 'must be a domain' })
        .default('core.windows.net')
        .describe("Where `account` lies; another in Azure's national clouds."),
      prefix: z
        .string({ error: 'must be text' })
        .regex(/^([a-z][a-z0-9]{0,19})?$/, {
          error: 'must be small letters and digits, at most 20, beginning with a letter',
        })
        .default('')
        .describe('Before the names of containers and tables, so that two installations share an account.'),
      timeoutMs: whole(100, 3_600_000)
        .default(30_000)
        .describe('The longest that one call to Azure may take with all its tries, in ms.'),
    })
    .refine(
      ({ kind, connectionString, account }) => kind === 'local' || Boolean(connectionString ?? account),
      {
        error: 'must have a connectionString or an account where its kind is azure',
      },
    )
    .refine(({ connectionString, account }) => connectionString === undefined || account === undefined, {
      error: 'must not have both a connectionString and an account: take one of them out',
    })
    .prefault({}),
});

/** As `loadConfig` gives it: `apiKey` and `store.connectionString` are looked up, wherever they are kept. */
export type Config = z.output<typeof configSchema>;

/** The environment variables that are settings. Empty counts as not said. */
export const variables = {
  dataDir: 'NEXUS_DATA_DIR',
  endpoint: 'NEXUS_ENDPOINT',
  apiKey: 'NEXUS_API_KEY',
  host: 'NEXUS_HOST_NAME',
  'serve.host': 'NEXUS_SERVE_HOST',
  'serve.port': 'PORT',
  'serve.url': 'NEXUS_SERVE_URL',
  'serve.trustProxy': 'NEXUS_TRUST_PROXY',
  keys: 'NEXUS_KEYS',
  mailboxes: 'NEXUS_MAILBOXES',
  'log.level': 'NEXUS_LOG_LEVEL',
  'log.format': 'NEXUS_LOG_FORMAT',
  'putio.token': 'NEXUS_PUTIO_TOKEN',
  'store.kind': 'NEXUS_STORE',
  'store.connectionString': 'NEXUS_STORE_CONNECTION_STRING',
  'store.account': 'NEXUS_STORE_ACCOUNT',
  'store.prefix': 'NEXUS_STORE_PREFIX',
} as const;

/** Variables that hold JSON, of which a number is some. */
const json = new Set<string>(['keys', 'mailboxes', 'serve.port', 'serve.trustProxy']);

interface Layer {
  values: Settings;
  /** Says in an error where a field came from. */
  origin: (field: string) => string;
}

export interface ConfigRequest {
  env: Environment;
  /** `--config`. */
  file?: string | undefined;
  /** What the command line says, in the shape of the configuration; `undefined` is not said. */
  flags?: Settings;
  /** Leave out the secrets that are kept elsewhere: only units have their credentials. */
  withoutSecrets?: boolean;
  /** Told how the file wants the log, before anything that is wrong with the configuration is thrown. */
  logAs?: ((settings: LogSettings) => void) | undefined;
}

/**
 * The configuration: defaults ← file ← environment ← flags. Throws `config` that names every wrong field at once.
 * Creates nothing.
 */
export async function loadConfig({
  env,
  file,
  flags = {},
  withoutSecrets = false,
  logAs,
}: ConfigRequest): Promise<Config> {
  const path = configPath(env, file);
  const settings = await readSettings(path);
  logAs?.(logIn(valueAt(settings, ['log', 'level']), valueAt(settings, ['log', 'format'])));
  const settled = parse(
    [
      { values: flags, origin: () => 'on the command line' },
      { values: fromEnvironment(env), origin: variableOf },
      { values: settings, origin: () => `in ${path}` },
    ],
    env,
  );
  const { apiKey, store, ...others } = settled;
  const { connectionString, ...rest } = store;
  const lookUp = async (secret: Secret | undefined) =>
    secret === undefined || (withoutSecrets && typeof secret !== 'string')
      ? undefined
      : await resolveSecret(secret, env);
  const [key, connection] = await Promise.all([lookUp(apiKey), lookUp(connectionString)]);
  return {
    ...others,
    ...(key === undefined ? {} : { apiKey: key }),
    store: { ...rest, ...(connection === undefined ? {} : { connectionString: connection }) },
  };
}

/** Refuses settings that a configuration file must not hold, as `loadConfig` would. */
export function checkSettings(settings: Settings, env: Environment): void {
  parse([{ values: settings, origin: () => 'as it would be' }], env);
}

/** The environment for the OpenClaw locator: what the environment does not say, the configuration does. */
export function openclawEnvironment(config: Config, env: Environment): Environment {
  const { stateDir } = config.openclaw;
  const said = ['OPENCLAW_STATE_DIR', 'CLAWDBOT_STATE_DIR', 'OPENCLAW_HOME', 'OPENCLAW_PROFILE'];
  if (stateDir === undefined || said.some((name) => env[name])) return env;
  return { ...env, OPENCLAW_STATE_DIR: stateDir };
}

export interface Setting {
  /** Dotted, as `nexus config get` takes it. */
  name: string;
  description: string;
  /** As JSON; `undefined` where there is none or it depends on the machine. */
  fallback: string | undefined;
  variable: string | undefined;
  secret: boolean;
}

/** Every setting, in the order of the schema. */
export function listSettings(): Setting[] {
  const names: Record<string, string> = variables;
  function walk(schema: unknown, prefix: string): Setting[] {
    return Object.entries(propertiesOf(schema)).flatMap(([key, field]) => {
      const name = prefix === '' ? key : `${prefix}.${key}`;
      const description = valueAt(field, ['description']);
      if (typeof description !== 'string') return walk(field, name);
      const fallback = valueAt(field, ['default']);
      return {
        name,
        description,
        fallback: fallback === undefined ? undefined : JSON.stringify(fallback),
        variable: names[name],
        secret: valueAt(field, ['secret']) === true,
      };
    });
  }
  return walk(jsonSchema(), '');
}

/** A setting's value, whatever lies below it, without its secrets. */
export function withoutSecrets(setting: readonly string[], value: unknown): unknown {
  return mask(schemaAt(jsonSchema(), setting), value);
}

let schemaAsJson: unknown;

/** Made once: it takes many times as long as what is looked up in it. */
function jsonSchema(): unknown {
  return (schemaAsJson ??= z.toJSONSchema(configSchema, { io: 'input', unrepresentable: 'any' }));
}

function parse(layers: Layer[], env: Environment): Config {
  const home = homeOf(env);
  let merged: Settings = { host: hostname() };
  const dataHome = env['XDG_DATA_HOME'];
  if (dataHome !== undefined && isAbsolute(dataHome)) merged['dataDir'] = join(dataHome, 'nexus');
  else if (home !== undefined) merged['dataDir'] = join(home, '.local', 'share', 'nexus');
  for (const layer of layers.toReversed()) merged = overlay(merged, layer.values);
  merged = overlay(merged, { keys: allKeys(layers) });
  expandHome(merged, 'dataDir', home);
  if (isSettings(merged['openclaw'])) expandHome(merged['openclaw'], 'stateDir', home);
  if (isSettings(merged['metrics'])) expandHome(merged['metrics'], 'textfile', home);
  if (merged['dataDir'] === undefined)
    throw new NexusError('config', 'There is no home directory to keep data in.', {
      hint: 'Set HOME, XDG_DATA_HOME or NEXUS_DATA_DIR.',
    });
  // Compiling it takes longer than reading it once.
  const result = configSchema.safeParse(merged, { jitless: true });
  if (result.success) return result.data;
  const wrong = result.error.issues.flatMap((issue) => complaints(issue, layers, merged));
  throw new NexusError('config', `The configuration is wrong: ${wrong.join('; ')}.`);
}

function complaints(issue: z.core.$ZodIssue, layers: Layer[], merged: Settings): string[] {
  const path = issue.path.map(String);
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => {
      const near = nearest(key, knownKeys(path));
      const field = [...path, key];
      const advice = near === undefined ? '' : `, did you mean ${[...path, near].join('.')}?`;
      return `${field.join('.')} (${originOf(field, layers, merged)}) is no setting${advice}`;
    });
  return [`${path.join('.')} (${originOf(path, layers, merged)}) ${sentenceOf(issue)}`];
}

function sentenceOf(issue: z.core.$ZodIssue): string {
  // A key of a record is refused for what its own schema says.
  if (issue.code === 'invalid_key' && issue.issues[0] !== undefined) return sentenceOf(issue.issues[0]);
  if (issue.message.startsWith('must ')) return issue.message;
  if (issue.code === 'invalid_type')
    return `must be ${issue.expected === 'object' ? 'an object' : issue.expected}`;
  return `is refused: ${issue.message}`;
}

function knownKeys(path: string[]): string[] {
  return Object.keys(propertiesOf(schemaAt(jsonSchema(), path)));
}

function originOf(path: string[], layers: Layer[], merged: Settings): string {
  // A key is at another place of the merged list than of the layer's own.
  const key = path[0] === 'keys' && path.length > 1 ? valueAt(merged, path.slice(0, 2)) : undefined;
  const says = ({ values }: Layer) =>
    key === undefined
      ? valueAt(values, path) !== undefined
      : Object.values(values['keys'] ?? {}).includes(key);
  const layer = layers.find(says) ?? layers.at(-1);
  return layer === undefined ? 'by default' : layer.origin(path.join('.'));
}

function variableOf(field: string): string {
  const names: Record<string, string> = variables;
  return `in ${names[field] ?? names[field.split('.', 1)[0] ?? ''] ?? 'the environment'}`;
}

function fromEnvironment(env: Environment): Settings {
  let values: Settings = {};
  for (const [field, name] of Object.entries(variables)) {
    const value = env[name];
    if (value === undefined || value === '') continue;
    // Others set this one too, and mean other things by it where it is no number.
    if (name === variables['serve.port'] && !/^\d+$/.test(value)) continue;
    const [outer = field, inner] = field.split('.');
    const said = json.has(field) ? jsonOr(value) : value;
    values = overlay(values, { [outer]: inner === undefined ? said : { [inner]: said } });
  }
  // A shell's user means a relative path from where they stand; a file's author cannot.
  const { dataDir } = values;
  if (typeof dataDir === 'string' && !dataDir.startsWith('~/')) values['dataDir'] = resolve(dataDir);
  return values;
}

/** What the text is as JSON, or itself: the schema then says what it must be. */
function jsonOr(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/**
 * The keys of every layer together: replicas get theirs from the environment. Of two with one name the upper layer's
 * counts. `undefined` leaves what is said, which is nothing or no list.
 */
function allKeys(layers: Layer[]): unknown[] | undefined {
  const lists = layers.map(({ values }) => values['keys']).filter((list) => list !== undefined);
  if (lists.length < 2 || !lists.every((list) => Array.isArray(list))) return undefined;
  const [over = [], ...under]: unknown[][] = lists;
  const taken = new Set(over.map((key) => valueAt(key, ['name'])));
  return [...under.flat().filter((key) => !taken.has(valueAt(key, ['name']))), ...over];
}

function expandHome(settings: Settings, field: string, home: string | undefined): void {
  const path = settings[field];
  if (home !== undefined && typeof path === 'string' && path.startsWith('~/'))
    settings[field] = join(home, path.slice(2));
}

/** `over` laid on `under`: objects field by field, everything else whole. Built from entries, so that a field
 * called `__proto__` is a field. */
function overlay(under: Settings, over: Settings): Settings {
  const said = Object.entries(over).filter(([, value]) => value !== undefined);
  const laid = said.map(([key, value]): [string, unknown] => {
    const below = valueAt(under, [key]);
    return [key, isSettings(value) ? overlay(isSettings(below) ? below : {}, value) : value];
  });
  return Object.fromEntries([...Object.entries(under), ...laid]);
}

/** An http or https URL that a path can be put after. */
export function isEndpoint(address: string): boolean {
  if (!URL.canParse(address)) return false;
  const url = new URL(address);
  const plain = url.username === '' && url.password === '' && url.search === '' && url.hash === '';
  return plain && (url.protocol === 'http:' || url.protocol === 'https:');
}
