import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { readCommandLine } from '../src/commandline.ts';
import { listSettings } from '../src/config.ts';
import { type ErrorCode, exit, exitStatus, NexusError } from '../src/errors.ts';
import { createServer } from '../src/http/server.ts';
import { factNames } from '../src/logline.ts';
import { openSignIns } from '../src/signins.ts';
import { openLocalStore } from '../src/stores/local.ts';
import { openUsage } from '../src/usage.ts';
import { nounsOver } from './http/nouns.ts';

const readme = await readFile(path.join(import.meta.dirname, '..', 'README.md'), 'utf8');

/** Rows of the first table after a text, each row its cells. */
function tableAfter(text: string): string[][] {
  const at = readme.indexOf(text);
  expect(at, text).toBeGreaterThan(-1);
  const lines = readme.slice(at).split('\n');
  const first = lines.findIndex((line) => line.startsWith('|'));
  const rows = lines.slice(first + 2);
  return rows
    .slice(
      0,
      rows.findIndex((line) => !line.startsWith('|')),
    )
    .map((row) =>
      row
        .slice(1, -1)
        .split(/(?<!\\)\|/)
        .map((cell) => cell.trim()),
    );
}

test('the table of settings is that of the schema, word for word', () => {
  const [, block] = /<!-- settings -->\n([^]*)<!-- \/settings -->/.exec(readme) ?? [];
  const code = (text: string | undefined) => (text === undefined ? '' : `\`${text}\``);
  const rows = listSettings().map(
    ({ name, fallback, variable, description }) =>
      `| ${code(name)} | ${code(fallback)} | ${code(variable)} | ${description.replaceAll('|', '\\|')} |`,
  );
  const table = ['| setting | default | environment | what it is |', '| --- | --- | --- | --- |', ...rows];
  expect(block).toBe(`\n${table.join('\n')}\n\n`);
});

test('the table of commands has every command of --help, its subcommands too, and no other', () => {
  const helped = (argv: string[]): string[] => {
    const read = readCommandLine([...argv, '--help'], '0');
    const text = read.kind === 'text' ? read.text : '';
    const [, commands = ''] = /\nCommands:\n([^]*?)(\n\n|$)/.exec(text) ?? [];
    return [...commands.matchAll(/^ {2}([a-z-]+)/gm)].flatMap(([, name = '']) => {
      if (name === 'help') return [];
      const below = helped([...argv, name]);
      // `usage` does something by itself; a group says how it is used.
      const acts = readCommandLine([...argv, name], '0').kind === 'command';
      return below.length === 0 || acts ? [[...argv, name].join(' '), ...below] : below;
    });
  };
  const named = tableAfter('## Commands').flatMap(([cell = '']) => {
    const [first = '', ...others] = [...cell.matchAll(/`(?:nexus )?([^`]+)`/g)].map(([, name = '']) => name);
    const group = first.split(' ').slice(0, -1).join(' ');
    return [first, ...others.map((name) => `${group} ${name}`)];
  });
  expect(named.sort()).toEqual(helped([]).sort());
});

test('the table of exit statuses has every status that errors, jobs and signals end with, and no other', () => {
  const of = (code: ErrorCode) => exitStatus(new NexusError(code, ''));
  const ofErrors: Record<ErrorCode, number> = {
    usage: of('usage'),
    config: of('config'),
    invalid: of('invalid'),
    unauthorized: of('unauthorized'),
    forbidden: of('forbidden'),
    not_found: of('not_found'),
    conflict: of('conflict'),
    too_large: of('too_large'),
    full: of('full'),
    unsupported: of('unsupported'),
    range: of('range'),
    limited: of('limited'),
    busy: of('busy'),
    unavailable: of('unavailable'),
    corrupt: of('corrupt'),
    changed: of('changed'),
  };
  const expected = new Set([...Object.values(exit), ...Object.values(ofErrors), 130, 143]);
  const told = tableAfter('### Exit statuses').flatMap(([cell = '']) => cell.split(', ').map(Number));
  expect(told).toEqual([...expected].sort((a, b) => a - b));
});

test('the routes in the table are those that the endpoint has, as far as they take or give transcripts', async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'nexus-readme-'));
  const store = await openLocalStore(directory);
  const nouns = nounsOver(store);
  const usage = await openUsage({ store, file: path.join(directory, 'usage', 'index.sqlite') });
  const dashboard = { signIns: openSignIns(store) };
  const app = createServer({ ...nouns, keys: () => [], version: '0', usage, dashboard });
  try {
    const routes = tableAfter('## The endpoint').flatMap(([cell = '']) =>
      [...cell.matchAll(/`([A-Z]+) ([^`]+)`/g)].map(([, method = '', url = '']) => ({
        method,
        url: url.replaceAll(/\{(\w+)\}/g, ':$1'),
      })),
    );
    expect(routes.length).toBeGreaterThan(5);
    expect(routes.filter(({ method, url }) => !app.hasRoute({ method, url }))).toEqual([]);
  } finally {
    await app.close();
    await usage.close();
    await nouns.sessions.close();
    await rm(directory, { recursive: true, force: true });
  }
});

test('the table of fields of the log is that of the code, word for word', () => {
  const rows = Object.entries(factNames).map(([name, meaning]) => [`\`${name}\``, meaning]);
  expect(tableAfter('### Logging')).toEqual(rows);
});
