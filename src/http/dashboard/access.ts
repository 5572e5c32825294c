import type { FastifyReply, FastifyRequest } from 'fastify';
import { failedWith, NexusError } from '../../errors.ts';
import { allows, findKey, type Key } from '../../keys.ts';
import { type SignIns, signInMs } from '../../signins.ts';
import { authenticate, type Caller, callerWith, refuseOutsiders } from '../auth.ts';
import { askedBy, bodyIn, headerOf } from '../context.ts';
import { openGuesses } from '../guesses.ts';

/** Who looks at the dashboard. */
interface Access {
  /** `undefined` where somebody has to sign in first. Throws `forbidden` for who may not even do that. */
  callerOf: (request: FastifyRequest) => Promise<Caller | undefined>;
  /** A form of this origin's own; `forbidden` for another's. */
  formOf: (request: FastifyRequest) => Promise<URLSearchParams>;
  /** Throws `unauthorized` or `forbidden` for a key that does not let in. */
  signIn: (request: FastifyRequest, reply: FastifyReply, presented: string) => Promise<void>;
  signOut: (request: FastifyRequest, reply: FastifyReply) => Promise<void>;
  /** Whether there is any key to sign in with. */
  needsKey: () => Promise<boolean>;
}

interface AccessOptions {
  keys: () => readonly Key[] | Promise<readonly Key[]>;
  signIns: SignIns;
  now: () => Date;
  /** How many stand before the endpoint. */
  proxies: number;
}

/**
 * The cookie's names: with this prefix browsers take it from this very origin over TLS only. Where there is no TLS they
 * refuse to keep such a one.
 */
const secureCookie = '__Host-nexus';
const plainCookie = 'nexus';

const mostFormBytes = 4096;

/** Sign-in by a key of scope `read`, and the cookie that stands for it afterwards. */
export function openAccess({ keys, signIns, now, proxies }: AccessOptions): Access {
  const guesses = openGuesses(now, proxies);

  async function keyBehind(request: FastifyRequest): Promise<Key | undefined> {
    const known = await keys();
    for (const token of tokensIn(request)) {
      const hash = await signIns.keyOf(token);
      // By the hash: a key that was made again under the same name is another.
      const key = hash === undefined ? undefined : known.find((one) => one.hash === hash);
      if (key !== undefined && allows(key, 'read')) return key;
    }
    return undefined;
  }

  return {
    async callerOf(request) {
      const known = await keys();
      // Only what the machine itself asks is let in without a key; the query and headers of a page carry none.
      if (known.length === 0) return authenticate(known, askedBy(request));
      const key = await keyBehind(request);
      return key === undefined ? undefined : callerWith(key);
    },

    async formOf(request) {
      refuseForeignForm(request);
      return await formIn(request);
    },

    async signIn(request, reply, presented) {
      const known = await keys();
      if (known.length === 0) {
        refuseOutsiders(askedBy(request));
        return;
      }
      const key = findKey(known, presented.trim());
      if (key === undefined)
        throw guesses(
          askedBy(request),
          new NexusError('unauthorized', 'This key is not known here.', {
            hint: 'Copy it again, or make one with `nexus keys add NAME --scopes read`.',
          }),
        );
      if (!allows(key, 'read'))
        throw new NexusError('forbidden', `The key "${key.name}" lacks the scope "read".`, {
          hint: 'Make one with `nexus keys add NAME --scopes read`.',
        });
      const secure = isSecure(request);
      const attributes = { path: '/', httpOnly: true, sameSite: 'strict', secure } as const;
      reply.setCookie(secure ? secureCookie : plainCookie, await signIns.begin(key.hash), {
        ...attributes,
        maxAge: signInMs / 1000,
      });
    },

    async signOut(request, reply) {
      refuseForeignForm(request);
      for (const token of tokensIn(request)) await signIns.end(token);
      for (const name of [secureCookie, plainCookie])
        reply.clearCookie(name, {
          path: '/',
          httpOnly: true,
          sameSite: 'strict',
          secure: name === secureCookie,
        });
    },

    needsKey: async () => (await keys()).length > 0,
  };
}

/** What a browser shows for itself; over TLS nothing that was set without it. */
function tokensIn(request: FastifyRequest): string[] {
  const field = request.headers.cookie;
  if (field === undefined) return [];
  const cookies = request.server.parseCookie(field);
  const names = isSecure(request) ? [secureCookie] : [secureCookie, plainCookie];
  return names.flatMap((name) => {
    const token = cookies[name];
    return token !== undefined && /^[A-Za-z0-9_-]{43}$/.test(token) ? [token] : [];
  });
}

/**
 * Whether the browser speaks TLS, to a proxy before this endpoint: the proxy says so, or the browser itself where it
 * sends a form. Who lies here harms only its own cookie.
 */
function isSecure(request: FastifyRequest): boolean {
  const forwarded = headerOf(request, 'forwarded') ?? '';
  const [proto = ''] = (headerOf(request, 'x-forwarded-proto') ?? '').split(',', 1);
  return (
    proto.trim().toLowerCase() === 'https' ||
    /(?:^|[;,\s])proto="?https"?/i.test(forwarded.split(',', 1)[0] ?? '') ||
    (headerOf(request, 'origin') ?? '').startsWith('https://')
  );
}

/** A form must come from a page of this very origin: a second lock beside the cookie's own. */
function refuseForeignForm(request: FastifyRequest): void {
  const site = headerOf(request, 'sec-fetch-site');
  if (site === 'same-origin') return;
  const said = headerOf(request, 'origin') ?? '';
  const origin = /^https?:/.test(said) && URL.canParse(said) ? new URL(said) : undefined;
  const own = [headerOf(request, 'host'), headerOf(request, 'x-forwarded-host')].map((host) => {
    const url = `${origin?.protocol ?? 'http:'}//${host ?? ''}`;
    return URL.canParse(url) ? new URL(url).host : undefined;
  });
  if (site === undefined && origin !== undefined && own.includes(origin.host)) return;
  throw new NexusError('forbidden', 'This form was not sent from a page of the dashboard.', {
    hint: 'Open the dashboard again and send it from there.',
  });
}

async function formIn(request: FastifyRequest): Promise<URLSearchParams> {
  const [type = ''] = (headerOf(request, 'content-type') ?? '').split(';', 1);
  if (type.trim().toLowerCase() !== 'application/x-www-form-urlencoded')
    throw new NexusError('unsupported', 'The form must be sent as application/x-www-form-urlencoded.');
  const body = await bodyIn(request).read(mostFormBytes, 'The form is too long.');
  return new URLSearchParams(body.toString('utf8'));
}

/** True where a sentence about a key is to be shown beside the form. */
export function isRefusal(error: unknown): error is NexusError {
  return failedWith(error, 'unauthorized', 'forbidden', 'too_large', 'unsupported');
}
