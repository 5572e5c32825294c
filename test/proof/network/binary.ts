import { saidBy } from '../kill/life.ts';
import type { Box, Job, Outcome } from './box.ts';

/** Runs the built job against an endpoint; its exit status is the real one. */
export async function runBinary(box: Box, job: Job, endpoint: string): Promise<Outcome> {
  await box.configure({ retry: { tries: 3, baseMs: 10, maxMs: 50 } });
  const ran = await box.world.run([job, '--json'], { NEXUS_ENDPOINT: endpoint });
  const said = saidBy(ran);
  const text = `${ran.stdout}${ran.stderr}`;
  const outcome: Outcome = {
    status: ran.status ?? 1,
    ok: said?.ok ?? false,
    failed: said?.failed ?? [{ item: job, reason: text }],
    skipped: said?.skipped ?? 0,
    bytes: said?.bytes ?? 0,
    delivered: said?.delivered ?? 0,
    text,
  };
  const wrong = said === undefined || ran.status === null || ran.status === 1;
  return wrong ? { ...outcome, bug: `${ran.signal ?? `status ${ran.status}`}: ${text}` } : outcome;
}
