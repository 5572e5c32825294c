import { digestOf, hmacOf, sameBytes } from './compare.ts';
import { malformed, needHeader, type Scheme } from './scheme.ts';
import { needSeconds, secondsOf } from './window.ts';

const header = 'stripe-signature';

/**
 * `t=…,v1=…`, with one `v1` for each secret while Stripe rolls one; `v0` is of its test mode and proves nothing. The
 * secret is the whole text, `whsec_` included.
 */
export const stripe: Scheme = (head, { toleranceSeconds = 300 }) => {
  const fields = needHeader(head, header)
    .split(',')
    .map((field) => field.trim().split('=', 2));
  const [time, ...otherTimes] = fields.filter(([name]) => name === 't').map(([, value = '']) => value);
  const seconds = time === undefined || otherTimes.length > 0 ? undefined : secondsOf(time);
  const digests = fields
    .filter(([name]) => name === 'v1')
    .flatMap(([, value = '']) => digestOf(value, 'sha256', 'hex') ?? []);
  if (seconds === undefined || digests.length === 0) throw malformed(header);
  needSeconds(seconds, head.now, toleranceSeconds);
  return {
    overBody: true,
    matches(secret, body) {
      const expected = hmacOf('sha256', secret, `${seconds}.`, body);
      return digests.some((digest) => sameBytes(digest, expected));
    },
  };
};
