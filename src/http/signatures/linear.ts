import { needHeader, refused, type Scheme } from './scheme.ts';
import { bodySignature } from './signedbody.ts';
import { needMilliseconds } from './window.ts';

const header = 'linear-signature';

/** The time is in the body, so that it is read only once the body is known to be Linear's. */
export const linear: Scheme = (head, { toleranceSeconds = 60 }) => {
  const signature = bodySignature({
    header,
    value: needHeader(head, header),
    algorithm: 'sha256',
    encoding: 'hex',
  });
  return {
    overBody: true,
    matches(secret, body) {
      if (!signature.matches(secret, body)) return false;
      needMilliseconds(timeIn(body), head.now, toleranceSeconds);
      return true;
    },
  };
};

function timeIn(body: Buffer): number {
  const time = fieldIn(body, 'webhookTimestamp');
  if (typeof time !== 'number') throw refused('The body has no webhookTimestamp, which Linear signs.');
  return time;
}

function fieldIn(body: Buffer, name: string): unknown {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
  } catch {
    return undefined; // no JSON, so no field
  }
}
