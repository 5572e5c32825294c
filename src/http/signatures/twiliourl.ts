import { parse, stringify } from 'node:querystring';

/**
 * The ways in which Twilio may have written a URL that it signed: with its port and without; and, where the URL was
 * escaped on its way, as a URL parser writes it. The same that Twilio's own library tries.
 */
export function spellingsOf(url: string): string[] {
  const parsed = URL.canParse(url) ? new URL(url).toString() : url;
  const spellings = [withoutPort(url), withPort(url), withoutPort(parsed), withPort(parsed)];
  return [...new Set([...spellings, ...spellings.slice(2).map(escapedAgain)])];
}

const parts = /^([a-z][a-z0-9+.-]*:\/\/)([^/?#]*@)?(\[[^\]]*\]|[^:/?#]*)(:[^/?#]*)?([^]*)$/i;

function withoutPort(url: string): string {
  return url.replace(parts, (_, scheme: string, user = '', host = '', __, rest = '') =>
    [scheme, user, host, rest].join(''),
  );
}

function withPort(url: string): string {
  return url.replace(parts, (_, scheme: string, user = '', host = '', port = '', rest = '') =>
    [scheme, user, host, port || (scheme.toLowerCase() === 'https://' ? ':443' : ':80'), rest].join(''),
  );
}

/** As Node's older `querystring` writes a query: `%27` for an apostrophe. */
function escapedAgain(url: string): string {
  const at = url.indexOf('?');
  return at === -1 || at === url.length - 1
    ? url
    : `${url.slice(0, at)}?${stringify(parse(url.slice(at + 1)))}`;
}
