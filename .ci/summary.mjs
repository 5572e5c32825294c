// The last words of `.ci/run`: names what was skipped, and says how many tests passed and failed. Only tests of real
// OpenClaw releases may be left out, where the lab that runs those is not beside the project; they are named all the same.
import { existsSync, readFileSync } from 'node:fs';
import { join, sep } from 'node:path';

const [results = '', lab = ''] = process.argv.slice(2);
const { testResults, numPassedTests, numFailedTests } = JSON.parse(readFileSync(results, 'utf8'));
const labIsThere = existsSync(join(lab, 'oclab.mjs'));
const skipped = testResults.flatMap(({ name, assertionResults }) =>
  assertionResults
    .filter(({ status }) => status !== 'passed' && status !== 'failed')
    .map(({ fullName, status }) => ({ fullName, status, ofLab: name.includes(`${sep}test${sep}lab${sep}`) })),
);
const excused = skipped.filter(({ ofLab }) => ofLab && !labIsThere);
for (const { fullName, status } of skipped.filter((one) => !excused.includes(one)))
  process.stdout.write(`${status} in CI: ${fullName}\n`);
for (const { fullName } of excused)
  process.stdout.write(`NOT RUN, no OpenClaw release can be run here: ${fullName}\n`);
if (skipped.length > excused.length || numPassedTests === 0) process.exitCode = 1;
process.stdout.write(`${numPassedTests} passed, ${numFailedTests} failed\n`);
