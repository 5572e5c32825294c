import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';

const root = path.resolve(import.meta.dirname, '..', 'src');

interface Import {
  from: string;
  /** A file of src, or the specifier of a package or a part of Node. */
  to: string;
  /** `import()`, at run time. */
  lazy: boolean;
  /** Types only: nothing is left of it when it runs. */
  type: boolean;
}

let files: Map<string, string>;
let imports: Import[];

beforeAll(async () => {
  const names = (await readdir(root, { recursive: true })).filter((name) => name.endsWith('.ts'));
  const read = names.map(async (name) => [name, await readFile(path.join(root, name), 'utf8')] as const);
  files = new Map(await Promise.all(read));
  imports = [...files].flatMap(([from, text]) => importsOf(from, text));
});

function importsOf(from: string, text: string): Import[] {
  const statics = text.matchAll(/^(?:import|export)\s+(type\s)?([^'";]*?\sfrom\s+)?'([^']+)'/gm);
  const lazies = text.matchAll(/\bimport\(\s*'([^']+)'\s*\)/g);
  return [
    ...[...statics].map(([, type, names = '', to = '']) => ({
      from,
      to: resolved(from, to),
      lazy: false,
      type: type !== undefined || onlyTypes(names),
    })),
    ...[...lazies].map(([, to = '']) => ({ from, to: resolved(from, to), lazy: true, type: false })),
  ];
}

/** `{ type A, type B }` leaves nothing either. */
function onlyTypes(names: string): boolean {
  const inner = /^\{([^}]*)\}/.exec(names.trim())?.[1]?.split(',');
  return inner?.every((name) => name.trim() === '' || name.trim().startsWith('type ')) ?? false;
}

function resolved(from: string, to: string): string {
  return to.startsWith('.') ? path.join(path.dirname(from), to) : to;
}

/** From the top down: a file imports from its own layer or from those below it. */
const layers: [name: string, files: RegExp][] = [
  ['main', /^(main|indexer|(command|webhook|alert|install|spend|putio)line|flags)\.ts$/],
  ['commands', /^commands\//],
  ['jobs', /^jobs\//],
  ['systemd and channels', /^(systemd|channels)\//],
  ['how things are opened', /^open\.ts$/],
  ['http, put.io and openclaw', /^(http|openclaw|putio)\//],
  ['the terminal', /^(input|output)\.ts$/],
  [
    'nouns',
    /^(sessions|changes|usage\w*|prices\w*|webhook\w+|alerts|alertsettings|budgets|budgetsettings|putiosettings|keys|config|secrets|sources|report|storecheck|storecopy|storecontents|signins|jobreports|damage)\.ts$/,
  ],
  ['stores', /^stores\/(?!store\.ts)/],
  [
    'words and rules',
    /^(agents|transcripts|nexus|mailbox|payload|transfer|exactjson|jsontext|configfile|logline|settings|jsonschema|context|format|table|nearest|slots|senterror)\.ts$|^stores\/store\.ts$/,
  ],
  ['locks and disk', /^(processlock|lastingnames|diskerrors|sharedsqlite|walcheck)\.ts$/],
  ['errors', /^errors\.ts$/],
];

function layerOf(file: string): number {
  return layers.findIndex(([, pattern]) => pattern.test(file));
}

function inSrc({ to }: Import): boolean {
  return files.has(to);
}

function pairs(found: Import[]): string[] {
  return found.map(({ from, to }) => `${from} → ${to}`);
}

test('every file of src has its layer', () => {
  expect([...files.keys()].filter((file) => layerOf(file) === -1)).toEqual([]);
});

test('every import of a file names one that is there', () => {
  expect(pairs(imports.filter((one) => one.to.endsWith('.ts') && !inSrc(one)))).toEqual([]);
});

test('no file imports from a layer above its own, types apart', () => {
  expect(
    pairs(imports.filter((one) => inSrc(one) && !one.type && layerOf(one.to) < layerOf(one.from))),
  ).toEqual([]);
});

test('no noun, store or rule knows the commands, jobs, HTTP or OpenClaw, not even their types', () => {
  const above =
    /^(main|indexer|(command|webhook|alert|install|spend|putio)line|flags|open)\.ts$|^(commands|jobs|systemd|channels|http|openclaw)\//;
  const found = imports.filter((one) => above.test(one.to) && !above.test(one.from));
  expect(pairs(found)).toEqual([]);
});

test('HTTP and OpenClaw know nothing of each other', () => {
  const found = imports.filter(
    ({ from, to }) =>
      (from.startsWith('http/') && to.startsWith('openclaw/')) ||
      (from.startsWith('openclaw/') && to.startsWith('http/')),
  );
  expect(pairs(found)).toEqual([]);
});

test('stores know the contract, errors, locks and each other, and no noun', () => {
  const allowed = /^stores\/|^(errors|processlock|lastingnames|diskerrors|sharedsqlite|walcheck)\.ts$/;
  const found = imports.filter(
    (one) =>
      one.from.startsWith('stores/') && one.from !== 'stores/store.ts' && inSrc(one) && !allowed.test(one.to),
  );
  expect(pairs(found)).toEqual([]);
});

test('the contract of stores knows nothing but errors', () => {
  expect(
    pairs(imports.filter((one) => one.from === 'stores/store.ts' && inSrc(one) && one.to !== 'errors.ts')),
  ).toEqual([]);
});

test('commands are loaded when they are run, and by nobody but the command line', () => {
  const found = imports.filter(
    ({ from, to, lazy, type }) =>
      to.startsWith('commands/') &&
      !type &&
      (from.startsWith('commands/')
        ? false
        : !lazy || !/^(command|webhook|alert|install|spend|putio)line\.ts$/.test(from)),
  );
  expect(pairs(found)).toEqual([]);
});

describe('each effect has one home', () => {
  const homes: [what: string, specifier: RegExp, home: RegExp][] = [
    ['commander', /^commander$/, /^((command|webhook|alert|install|spend|putio)line|flags)\.ts$/],
    ['conf', /^conf$/, /^configfile\.ts$/],
    ['ora', /^ora$/, /^output\.ts$/],
    ['Fastify', /^(fastify|@fastify\/.*|pino)$/, /^http\/(server|listen)\.ts$/],
    ['chart.js', /^chart\.js$/, /^http\/dashboard\/client\//],
    ['prom-client', /^prom-client$/, /^http\/metrics\.ts$/],
    ['chokidar', /^chokidar$/, /^jobs\/watch\.ts$/],
    ['JSON5', /^json5$/, /^openclaw\//],
    [
      'SQLite',
      /^node:sqlite$/,
      /^(stores|openclaw)\/|^jobs\/(ledger|deliveriesfile)\.ts$|^(processlock|diskerrors|usagefile)\.ts$/,
    ],
    ['the Azure SDK', /^@azure\//, /^stores\/azure/],
    // A program that hangs is ended with all that it began, which execa waits for.
    ['child processes', /^node:(child_process|cluster)$/, /^systemd\/command\.ts$/],
    [
      'threads',
      /^node:worker_threads$/,
      /^(indexer|stores\/local-damage|usagereaderthread|usagereading|commands\/usagethread)\.ts$/,
    ],
    ['execa', /^execa$/, /^(openclaw\/cli|systemd\/command)\.ts$/],
    ['the network', /^node:(https?|net|tls|http2|dgram|dns.*)$/, /^http\//],
  ];
  test.each(homes)('%s', (_, specifier, home) => {
    expect(
      pairs(imports.filter((one) => !one.type && specifier.test(one.to) && !home.test(one.from))),
    ).toEqual([]);
  });

  test('the environment', () => {
    expect(filesWith(/\bprocess\.env\b|process\[|= process\b(?!\.)|from '(node:)?process'/)).toEqual([
      'main.ts',
    ]);
  });

  test('the terminal', () => {
    expect(filesWith(/\bconsole\.|\bprocess\.(stdout|stderr|stdin)\b/)).toEqual(['main.ts']);
  });

  test('nobody ends the process', () => {
    expect(filesWith(/\bprocess\.(exit|abort|reallyExit)\b/)).toEqual([]);
  });
});

function filesWith(pattern: RegExp): string[] {
  return [...files].filter(([, text]) => pattern.test(withoutComments(text))).map(([file]) => file);
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '');
}

test('heavy packages are loaded only by what needs them', () => {
  const found = imports.filter(
    ({ to, lazy, type }) => /^(conf|ora|chokidar|execa)$/.test(to) && !type && !lazy,
  );
  const eager = found.filter(({ from }) => from !== 'jobs/watch.ts');
  expect(pairs(eager)).toEqual([]);
});

test('the Azure store is loaded by what opens it alone, when it is opened', () => {
  const found = imports.filter(
    ({ from, to, lazy, type }) =>
      to.startsWith('stores/azure') &&
      !type &&
      !from.startsWith('stores/azure') &&
      (!lazy || from !== 'open.ts'),
  );
  expect(pairs(found)).toEqual([]);
});

test('nothing imports in a circle, types apart', () => {
  const circles: string[] = [];
  const done = new Set<string>();
  function visit(file: string, above: string[]): void {
    if (above.includes(file)) circles.push([...above.slice(above.indexOf(file)), file].join(' → '));
    if (above.includes(file) || done.has(file)) return;
    for (const one of imports)
      if (one.from === file && inSrc(one) && !one.type) visit(one.to, [...above, file]);
    done.add(file);
  }
  for (const file of files.keys()) visit(file, []);
  expect(circles).toEqual([]);
});
