import { needHeader, refused, type Scheme } from './scheme.ts';
import { token } from './token.ts';

const header = 'x-webhook-secret';

/** `X-Webhook-Secret`, or `?secret=` for senders that cannot set a header. With the header the query is ignored. */
export const secret: Scheme = (head) => {
  if (head.headers[header] !== undefined) return token(needHeader(head, header));
  const { query } = head;
  const value: unknown =
    typeof query === 'object' && query !== null ? Reflect.get(query, 'secret') : undefined;
  if (typeof value !== 'string' || value === '')
    throw refused(`This source needs its secret, as the header ${header} or as ?secret=, once.`);
  return token(value, 'utf8');
};
