import { needHeader, refused, type Scheme } from './scheme.ts';
import { standard } from './standard.ts';
import { token } from './token.ts';

const header = 'x-gitlab-token';

/**
 * GitLab's secret token, which it sends as it is, or its signing token, with which it signs as Standard
 * Webhooks do. A signing token is known by `whsec_`: it is never taken as it is, nor is a secret token a key.
 */
export const gitlab: Scheme = (head, source) => {
  const signed = head.headers['webhook-signature'] !== undefined;
  const plain = head.headers[header] === undefined ? undefined : token(needHeader(head, header));
  if (!signed && plain === undefined)
    throw refused(`This source needs the header ${header} or webhook-signature.`);
  // GitLab may send both: where its secret token is what was agreed on, its clock does not matter.
  if (plain === undefined) standard(head, source);
  return {
    overBody: signed,
    matches: (secret, body) =>
      secret.startsWith('whsec_')
        ? signed && standard(head, source).matches(secret, body)
        : (plain?.matches(secret, body) ?? false),
  };
};
