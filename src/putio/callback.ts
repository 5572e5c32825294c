import { visible } from '../format.ts';

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

const anyUrl = /\b[a-z][a-z0-9+.-]*:\/\/[^\s"'<>]+/gi;

/** The URLs that a text quotes. */
export function urlsIn(text: string): string[] {
  return text.match(anyUrl)?.map((url) => url.replace(/[).,;]+$/, '')) ?? [];
}

/** What put.io says, on one short line; it may quote the URL that it called. */
export function withoutSecrets(text: string): string {
  const line = text
    .replaceAll(anyUrl, shownCallback)
    .replaceAll(/([?&](?!source=)\w+=)[^&\s"')]+/g, '$1********')
    .replaceAll(/\s+/g, ' ');
  return visible(line).slice(0, 200);
}

/** A name from outside in a sentence of ours. */
export function shortName(name: string): string {
  return visible(name.slice(0, 100)).slice(0, 100);
}

/** A callback for people: whose it is, and nothing that lets in there. Of somebody else's any part may be a secret. */
export function shownCallback(callback: string): string {
  if (!URL.canParse(callback)) return '(no URL)';
  const named = mailboxIn(callback);
  if (named === undefined) {
    const { origin, protocol, host } = new URL(callback);
    return origin === 'null' ? `${protocol}//${host}` : origin;
  }
  const query = [...new URL(callback).searchParams].map(
    ([name, value]) => `${shortName(name)}=${name === 'source' ? encodeURIComponent(value) : '********'}`,
  );
  return `${named.base}/api/webhook/${named.agent}?${query.join('&')}`;
}
