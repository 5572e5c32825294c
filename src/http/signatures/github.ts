import { needHeader, type Scheme } from './scheme.ts';
import { bodySignature } from './signedbody.ts';

const header = 'x-hub-signature-256';

/** `X-Hub-Signature-256`; the older `X-Hub-Signature`, of SHA-1, proves nothing here. No time is signed. */
export const github: Scheme = (head) =>
  bodySignature({
    header,
    value: needHeader(head, header),
    algorithm: 'sha256',
    encoding: 'hex',
    prefix: 'sha256=',
  });
