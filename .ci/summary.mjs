// The last words of `.ci/run`: names what was skipped, and says how many tests passed and failed.
import { readFileSync } from 'node:fs';

const { testResults, numPassedTests, numFailedTests } = JSON.parse(
  readFileSync(process.argv[2] ?? '', 'utf8'),
);
const skipped = testResults
  .flatMap(({ assertionResults }) => assertionResults)
  .filter(({ status }) => status !== 'passed' && status !== 'failed');
for (const { fullName, status } of skipped) process.stdout.write(`${status} in CI: ${fullName}\n`);
if (skipped.length > 0 || numPassedTests === 0) process.exitCode = 1;
process.stdout.write(`${numPassedTests} passed, ${numFailedTests} failed\n`);
