import type { IncomingHttpHeaders } from 'node:http';

/** The most that is kept of one request's headers: units of their JSON. */
export const maxKeptHeaders = 16 * 1024;

/** What every request has, and what stands between a sender and this endpoint adds: it says nothing of the sender. */
const onTheWay = [
  /^(host|connection|content-length|content-type|transfer-encoding|te|trailer|upgrade|expect|keep-alive)$/,
  /^(accept|accept-.*|cache-control|pragma|range|if-.*|sec-.*|upgrade-insecure-requests|priority|dnt|origin|referer)$/,
  /^(via|forwarded|x-forwarded-.*|x-original-.*|x-real-ip|x-scheme|x-request-start|max-forwards|proxy-.*)$/,
  /^(client-ip|x-client-ip|x-client-port|x-cluster-client-ip|true-client-ip|tailscale-.*|fly-.*)$/,
  /^(cf-.*|cdn-loop|x-azure-.*|x-arr-.*|x-appservice-.*|x-waws-.*|x-site-deployment-id|x-ms-client-principal.*)$/,
  /^(disguised-host|was-default-hostname|x-envoy-.*|x-amzn-trace-id|x-cloud-trace-context)$/,
  /^(traceparent|tracestate|baggage|b3|x-b3-.*|sentry-trace)$/,
];

/** What lets its bearer in somewhere, by what such headers are called. Trello's signature is called after Trello. */
const credential =
  /auth|cookie|signature|token|secret|hmac|jwt|bearer|credential|session|csrf|xsrf|pass(word|wd|phrase)|key\d*($|[-_])|(^|[-_])(sig|pwd|pass|otp|pin|dpop)\d*($|[-_])|^x-trello-webhook$/;

/** Called like credentials and none: what a delivery or an event is known by. */
const noCredential = /idempotency|(^|-)event-key$/;

/**
 * The headers of a request that say who sent it and what it is, names in small letters: no credential, nothing that
 * belongs to the connection or was added on the way. `without` names more to leave out. Those that do not fit into
 * `maxKeptHeaders` are left out, the others kept.
 */
export function keptHeaders(
  headers: IncomingHttpHeaders,
  without: readonly string[] = [],
): Record<string, string> {
  const kept: [string, string][] = [];
  let room = maxKeptHeaders - 2;
  for (const [name, field] of Object.entries(headers)) {
    if (field === undefined || !identifies(name) || without.includes(name)) continue;
    const value = Array.isArray(field) ? field.join(', ') : field;
    const cost = JSON.stringify(name).length + JSON.stringify(value).length + 2;
    if (cost > room) continue;
    room -= cost;
    kept.push([name, value]);
  }
  return Object.fromEntries(kept);
}

/** Senders call their headers the same each time; how many are remembered has a bound, for those who do not. */
const known = new Map<string, boolean>();
const mostKnown = 2000;

function identifies(name: string): boolean {
  const before = known.get(name);
  if (before !== undefined) return before;
  const answer = namesSender(name);
  if (known.size < mostKnown) known.set(name, answer);
  return answer;
}

function namesSender(name: string): boolean {
  if (onTheWay.some((pattern) => pattern.test(name))) return false;
  return noCredential.test(name) || !credential.test(name);
}
