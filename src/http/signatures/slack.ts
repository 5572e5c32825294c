import { malformed, needHeader, type Scheme } from './scheme.ts';
import { bodySignature } from './signedbody.ts';
import { needSeconds, secondsOf } from './window.ts';

const header = 'x-slack-signature';
const timeHeader = 'x-slack-request-timestamp';

export const slack: Scheme = (head, { toleranceSeconds = 300 }) => {
  const value = needHeader(head, header);
  const seconds = secondsOf(needHeader(head, timeHeader));
  if (seconds === undefined) throw malformed(timeHeader);
  needSeconds(seconds, head.now, toleranceSeconds);
  return bodySignature({
    header,
    value,
    algorithm: 'sha256',
    encoding: 'hex',
    prefix: 'v0=',
    around: (body) => [`v0:${seconds}:`, body],
  });
};
