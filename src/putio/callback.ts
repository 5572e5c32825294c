/** What the sources that `nexus putio` makes and fills are called. */
export const putioSource = 'putio';

/** The URL that put.io calls back; its secret is in it, as put.io can send no header of ours and signs nothing. */
export function callbackUrl(base: string, agent: string, secret: string): string {
  return `${base}/api/webhook/${agent}?source=${putioSource}&secret=${encodeURIComponent(secret)}`;
}

/** The mailbox that a callback names, `undefined` when it is none of an endpoint's. */
export function mailboxIn(callback: string): { base: string; agent: string; source: string } | undefined {
  if (!URL.canParse(callback)) return undefined;
  const { origin, pathname, searchParams } = new URL(callback);
  const [, prefix, agent] = /^(.*)\/api\/webhook\/([A-Za-z0-9][A-Za-z0-9_-]{0,63})$/.exec(pathname) ?? [];
  const source = searchParams.get('source');
  return prefix === undefined || agent === undefined || source === null
    ? undefined
    : { base: `${origin}${prefix}`, agent, source };
}

/** What put.io says, on one short line; it may quote the URL that it called. */
export function withoutSecrets(text: string): string {
  return text
    .replaceAll(/([?&](?!source=)\w+=)[^&\s"')]+/g, '$1********')
    .replaceAll(/\s+/g, ' ')
    .slice(0, 200);
}

/** A callback for people: whose it is, and nothing that lets in there. */
export function shownCallback(callback: string): string {
  if (!URL.canParse(callback)) return '(no URL)';
  const url = new URL(callback);
  const query = [...url.searchParams].map(
    ([name, value]) => `${name}=${name === 'source' ? encodeURIComponent(value) : '********'}`,
  );
  return `${url.origin}${url.pathname}${query.length === 0 ? '' : `?${query.join('&')}`}`;
}
