import { headerOf, needHeader, type Scheme } from './scheme.ts';
import { bodySignature } from './signedbody.ts';

const header = 'x-shopify-hmac-sha256';
/** Of the newer Events. */
const eventsHeader = 'shopify-hmac-sha256';

/** The secret is the app's client secret, or the one that the shop's notification settings show. No time is signed. */
export const shopify: Scheme = (head) =>
  bodySignature({
    header,
    value: headerOf(head.headers, eventsHeader) ?? needHeader(head, header),
    algorithm: 'sha256',
    encoding: 'base64',
  });
