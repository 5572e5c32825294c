import { againOf, type Asked } from './asked.ts';
import type { Notes } from './notes.ts';
import type { Stand } from './stand.ts';
import type { Answer } from './wire.ts';

const stack = /\n\s+at .+:\d+|node:internal|\bat (?:async )?[\w.<>]+ \(.*:\d+:\d+\)|dist\/\S+\.js/;
const fieldLine = /^[A-Za-z0-9-]+: [\x20-\x7e\x80-\xff\t]*$/;

/** A sentence for what an answer to alpha, or to nobody, breaks; `undefined` where it holds. */
export function wrongWith(stand: Stand, answer: Answer | undefined): string | undefined {
  if (answer === undefined) return 'A request had no whole answer within its time.';
  const { status, head, headers, body, rest } = answer;
  // Nothing that is stored was damaged, and no store refused: so whatever was asked, it is a bug.
  if (status >= 500 && status !== 503) return `A request was answered with ${status}.`;
  if (rest.length > 0 && !isUnread(answer)) return 'One request had more than one answer.';
  const broken = head.find((line) => !fieldLine.test(line));
  if (broken !== undefined || headers.has('x-injected')) return 'A header of an answer is malformed.';
  const shown = `${head.join('\n')}\n${body.toString('latin1')}`;
  if (stack.test(shown)) return 'An answer shows a stack.';
  if (shown.includes(stand.world.home)) return 'An answer shows a path of the inside.';
  if (shown.includes(stand.betas)) return "An answer shows another agent's data.";
  if (shown.includes(stand.canaries.secret)) return 'An answer shows a file outside the root.';
  if (Object.values(stand.keys).some((key) => shown.includes(key))) return 'An answer shows a key.';
  return wrongWithType(answer);
}

/** Who refuses a head that it could not read does not know that it was a HEAD; it says so once and hangs up. */
function isUnread({ status, headers, rest }: Answer): boolean {
  return (
    [400, 408, 431].includes(status) &&
    headers.get('connection') === 'close' &&
    rest.length === Number(headers.get('content-length'))
  );
}

function wrongWithType({ status, headers, body }: Answer): string | undefined {
  const type = headers.get('content-type') ?? '';
  // What is refused before there is a request has no more than a sentence, or nothing.
  const early = [400, 408, 417, 431].includes(status);
  if (headers.get('x-content-type-options') !== 'nosniff' && !early)
    return 'An answer lets its type be guessed.';
  const page = type.startsWith('text/html') && headers.get('content-disposition') !== 'attachment';
  if (page) {
    const policy = headers.get('content-security-policy') ?? '';
    if (!policy.startsWith("default-src 'none';") || policy.includes('unsafe'))
      return 'A page has no safe policy.';
    const markup = body.toString('utf8');
    if (markup.includes('<nexus-xss') || /(?:href|src|action)="?\s*(?:javascript|data):/i.test(markup))
      return 'A page holds markup that came from outside.';
  }
  if (status < 400 || page || body.length === 0) return undefined;
  try {
    const { error }: { error?: unknown } = JSON.parse(body.toString('utf8'));
    return typeof error === 'string' && error !== '' ? undefined : 'A refusal has no sentence.';
  } catch {
    // Then it is no JSON.
    return 'A refusal is no JSON.';
  }
}

/** Whether an answer holds, noted. */
export function judge(stand: Stand, notes: Notes, asked: Asked, answer: Answer | undefined): void {
  const wrong = stand.gone() ? 'The endpoint ended.' : wrongWith(stand, answer);
  if (wrong !== undefined) notes.broken(wrong, `${againOf(asked)} → ${shortOf(answer)}`);
}

export function shortOf(answer: Answer | undefined): string {
  return answer === undefined
    ? 'nothing'
    : `${answer.status} ${answer.body.toString('latin1').slice(0, 300)}`;
}

interface Entry {
  level?: string;
  message?: string;
  request?: string;
  route?: string;
  method?: string;
  status?: number;
}

/** What the log of a whole run must hold: lines of JSON, no secret, and for each 500 a line that tells why. */
export function judgeLog(stand: Stand, notes: Notes, stderr: string): void {
  const refused: Entry[] = [];
  const told = new Set<string>();
  for (const line of stderr.split('\n').filter((one) => one !== '')) {
    const entry = entryOf(line);
    if (entry === undefined)
      notes.broken('The log has a line that is none of its own.', JSON.stringify(line).slice(0, 500));
    else if (entry.status !== undefined && entry.status >= 500) refused.push(entry);
    else if (entry.status === undefined && entry.request !== undefined) told.add(entry.request);
    if (entry?.level === 'error') notes.broken('The log tells of a bug.', line.slice(0, 1500));
    if (Object.values(stand.keys).some((key) => line.includes(key)))
      notes.broken('The log shows a key.', line.slice(0, 500));
    notes.count('lines of the log');
  }
  for (const { request = '', method, route, status } of refused)
    if (!told.has(request))
      notes.broken(
        'An answer of 500 or more has no line of its own in the log.',
        `${method} ${route} ${status}`,
      );
}

function entryOf(line: string): Entry | undefined {
  // oxlint-disable-next-line no-control-regex
  if (/[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]/.test(line)) return undefined;
  try {
    const entry: Entry = JSON.parse(line);
    return entry;
  } catch {
    // A line that is no JSON is what is looked for.
    return undefined;
  }
}
