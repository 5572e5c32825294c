import type { Output } from '../output.ts';
import type { Problem } from './statusmail.ts';

/** What is not well, a line each, and the whole in one line of the log; people read it in the result. */
export function logStatus(
  output: Output,
  { ok, problems }: { ok: boolean; problems: readonly Problem[] },
): void {
  if (output.forPeople) return;
  for (const { problem, next, subject, code } of problems) output.warn(problem, { subject, code, next });
  output.summary(ok ? 'All is well.' : 'Not all is well.', { ok, failed: problems.length });
}
