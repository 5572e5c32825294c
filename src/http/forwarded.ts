import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';

/**
 * The address of who asked, behind `proxies` proxies: each adds to the end of `X-Forwarded-For` whom it was asked by,
 * so what stands before the last `proxies` entries is whatever the asker wrote. The peer itself where there are fewer
 * entries (then it came by another way), or where the one that counts is no address.
 */
export function askerOf(
  peer: string | undefined,
  forwardedFor: string | string[] | undefined,
  proxies: number,
): string | undefined {
  if (proxies === 0 || forwardedFor === undefined) return peer;
  const entries = [forwardedFor].flat().join(',').split(',');
  return addressIn(entries.at(-proxies) ?? '') ?? peer;
}

/**
 * The scheme and host that were called, behind `proxies` proxies: as the outermost of them says. What a header says
 * where there is none is whatever the asker wrote.
 */
export function originOf(headers: IncomingHttpHeaders, proxies: number): string {
  const said = (name: string): string | undefined => {
    if (proxies === 0) return undefined;
    const entries = [headers[name] ?? []].flat().join(',').split(',');
    // One that stands further in may have written its own in place of those before it.
    return (entries.at(-proxies) ?? entries[0])?.trim() || undefined;
  };
  return `${said('x-forwarded-proto') ?? 'http'}://${said('x-forwarded-host') ?? headers.host ?? ''}`;
}

/** An address as proxies write it: alone, or with a port, as App Service does. */
function addressIn(entry: string): string | undefined {
  const [, bracketed, plain] = /^\s*(?:\[([^\]]+)\](?::\d+)?|(\S+?))\s*$/.exec(entry) ?? [];
  const text = bracketed ?? plain ?? '';
  const address = isIP(text) === 0 ? text.replace(/:\d+$/, '') : text;
  return isIP(address) === 0 ? undefined : address;
}
