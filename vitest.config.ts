import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Tests change the umask, the working directory and the uid of what they start.
    pool: 'forks',
    // Most of them wait for processes that they start, and one more waits meanwhile.
    maxWorkers: Math.max(2, availableParallelism()),
    testTimeout: 20_000,
    hookTimeout: 20_000,
    globalSetup: ['test/build.ts'],
    // A test that was left on its own must not pass for the whole suite.
    allowOnly: false,
  },
});
