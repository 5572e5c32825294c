#!/usr/bin/env node
// Plain JavaScript that any Node can parse: too old a Node must get a sentence, not a syntax error.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 24 || (major === 24 && minor < 16)) {
  process.stderr.write(
    `nexus needs Node 24.16 or newer, and this is Node ${process.versions.node}: put a newer node first on PATH.\n`,
  );
  process.exitCode = 78;
} else if (process.argv.length === 3 && (process.argv[2] === '--version' || process.argv[2] === '-V')) {
  // Answered before anything is imported: scripts ask this often.
  const { readFileSync } = process.getBuiltinModule('node:fs');
  const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  process.stdout.write(`${manifest.version}\n`);
} else {
  process.getBuiltinModule('node:module').enableCompileCache();
  const { main } = await import('../dist/main.js');
  process.exitCode = await main(process.argv.slice(2));
}
