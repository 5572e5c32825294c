// `npm run build`: src/main.ts, what its threads run, and what a browser loads, with all that they need, into dist.
// `node .ci/build.ts [--packages=external] [DIRECTORY]` does so for a copy of the project; `external` leaves packages
// out of what Node runs.
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { build, type BuildOptions, type Plugin } from 'esbuild';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { packages: { type: 'string', default: 'bundle' } },
});
const root = path.resolve(positionals[0] ?? path.join(import.meta.dirname, '..'));
const source = path.join(root, 'src');
const outdir = path.join(root, 'dist');

/** What a job needs at each start, beside all that these import. */
const always = ['commandline.ts', 'output.ts', 'systemd/asinstalled.ts', 'config.ts', 'commands/upload.ts'];

/**
 * Makes one chunk of what a job needs. esbuild makes a chunk of the modules that are needed by the same `import()`s,
 * forty for a job, and Node takes half a millisecond for each; so every `import()` of a file of ours needs all of it.
 */
const together: Plugin = {
  name: 'together',
  setup(bundle) {
    bundle.onResolve({ filter: /^\./ }, ({ path: name, kind, importer, resolveDir }) =>
      kind === 'dynamic-import' && importer.startsWith(source)
        ? { path: path.relative(source, path.resolve(resolveDir, name)), namespace: 'together' }
        : undefined,
    );
    bundle.onLoad({ filter: /./, namespace: 'together' }, ({ path: file }) => ({
      contents: `${always.map((name) => `import './${name}';`).join('\n')}\nexport * from './${file}';`,
      resolveDir: source,
    }));
  },
};

/**
 * Takes what a job needs of Node's own modules as `require` does. An `import` of one reads each of its exports, which
 * starts what nobody asked for: the streams of `node:fs`, all of Web Crypto.
 */
const builtins: Plugin = {
  name: 'builtins',
  setup(bundle) {
    bundle.onResolve({ filter: /^node:/ }, ({ path: name, kind, importer }) =>
      kind === 'import-statement' && (importer.startsWith(source) || /[\\/]commander[\\/]/.test(importer))
        ? { path: name, namespace: 'builtins', sideEffects: false }
        : undefined,
    );
    bundle.onLoad({ filter: /./, namespace: 'builtins' }, ({ path: name }) => {
      const names = Object.keys(process.getBuiltinModule(name) ?? {}).filter((one) => one !== 'default');
      // Calls without effect: esbuild leaves out those whose result nobody imports.
      const contents = [
        `const whole = () => process.getBuiltinModule('${name}');`,
        `export default /* @__PURE__ */ whole();`,
        ...names.map((one) => `export const ${one} = /* @__PURE__ */ (() => whole().${one})();`),
      ];
      return { contents: contents.join('\n') };
    });
  },
};

await rm(outdir, { recursive: true, force: true });
const forNode: BuildOptions = {
  outdir,
  // Where it lies is not in what is built.
  absWorkingDir: root,
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node24',
  packages: values.packages === 'external' ? 'external' : 'bundle',
  sourcemap: true,
  logLevel: 'warning',
  // For packages that are CommonJS.
  banner: { js: "const require=process.getBuiltinModule('node:module').createRequire(import.meta.url);" },
  plugins: [together, builtins],
};
await build({
  ...forNode,
  entryPoints: ['main.ts', 'indexer.ts'].map((name) => path.join(source, name)),
  chunkNames: 'chunks/[name]-[hash]',
  splitting: true,
});
// By itself: a chunk that it shared would be one more for each start of a job.
await build({ ...forNode, entryPoints: [path.join(source, 'usagereading.ts')] });
const client = path.join(source, 'http', 'dashboard', 'client');
await build({
  entryPoints: ['dashboard.ts', 'dashboard.css', 'icon.svg'].map((name) => path.join(client, name)),
  outdir: path.join(outdir, 'dashboard'),
  absWorkingDir: root,
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  loader: { '.svg': 'copy' },
  logLevel: 'warning',
});
