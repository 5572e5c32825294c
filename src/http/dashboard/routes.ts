import type { FastifyReply, FastifyRequest } from 'fastify';
import { describe, httpStatus } from '../../errors.ts';
import { codeIn } from '../../logline.ts';
import type { SignIns } from '../../signins.ts';
import type { Usage } from '../../usage.ts';
import type { Caller } from '../auth.ts';
import { headerOf, type Routes } from '../context.ts';
import { errorOf } from '../failures.ts';
import { errorEntry } from '../log.ts';
import { notLooked, openRecent } from '../recent.ts';
import { isRefusal, openAccess } from './access.ts';
import { readAssets } from './assets.ts';
import { itemPage } from './item.ts';
import { contentSecurityPolicy, type Frame, layOutPage, type Page, sentencePage } from './layout.ts';
import { openHosts } from './hosts.ts';
import { overviewPage } from './overview.ts';
import { sessionsPage } from './sessions.ts';
import { signInPage } from './signin.ts';
import { transcriptPage } from './transcript.ts';
import { usagePage } from './usage.ts';
import { usageWithin, type View } from './view.ts';
import { webhooksPage } from './webhooks.ts';

export interface DashboardOptions {
  usage: Usage;
  signIns: SignIns;
  /** Whose days are shown. When not said: this machine's. */
  timeZone?: string | undefined;
}

/** How long a page waits for what was stored since the last look, ms; then it says as of when it is. */
const patienceMs = 400;

const pages: [url: string, page: (view: View) => Promise<Page>][] = [
  ['/', overviewPage],
  ['/usage', usagePage],
  ['/sessions', sessionsPage],
  ['/sessions/:agentId/:transcript', transcriptPage],
  ['/webhooks', webhooksPage],
  ['/webhooks/:id', itemPage],
];

/** Pages for people: they read the store and the index, and change nothing but who is signed in. */
export function dashboardRoutes(routes: Routes, options: DashboardOptions): void {
  const { app, sessions, webhooks, keys, version, now, log, proxies } = routes;
  const { usage, timeZone = Intl.DateTimeFormat().resolvedOptions().timeZone } = options;
  const assets = readAssets();
  const access = openAccess({ keys, signIns: options.signIns, now, proxies });
  const hosts = openHosts(sessions);
  let trouble: unknown;
  const look = openRecent(
    {
      async catchUp() {
        const standing = await usage.catchUp();
        trouble = undefined;
        return standing;
      },
    },
    patienceMs,
  );

  function failedLook(request: FastifyRequest, error: unknown): void {
    trouble = error;
    log(errorEntry('warn', notLooked, error, request.id));
  }

  /** Keeps the rest of a page where the store fails one part of it. */
  function failedPart(request: FastifyRequest, caller: Caller, error: unknown): string {
    const known = errorOf(error);
    if (known === undefined) throw error;
    log(errorEntry('warn', 'A part of a page cannot be shown.', known, request.id));
    return reasonFor(caller, known);
  }

  function frameOf(request: FastifyRequest, caller: Caller | undefined): Frame {
    const key = caller?.name;
    return {
      assets,
      root: rootOf(request),
      now: now(),
      version,
      signedIn: caller === undefined ? undefined : key === undefined ? null : { key },
      timeZone,
      trouble: trouble === undefined || caller === undefined ? undefined : reasonFor(caller, trouble),
    };
  }

  function send(request: FastifyRequest, reply: FastifyReply, page: Page, caller?: Caller): FastifyReply {
    return reply
      .code(page.status ?? 200)
      .type('text/html; charset=utf-8')
      .send(layOutPage(page, frameOf(request, caller)));
  }

  /** Headers of every page, and an error as a page. */
  const common = {
    config: { open: true },
    onRequest: (_request: FastifyRequest, reply: FastifyReply, done: () => void) => {
      reply
        .header('content-security-policy', contentSecurityPolicy)
        // With none at all a browser would say of its own forms that they come from nowhere.
        .header('referrer-policy', 'same-origin')
        .header('x-frame-options', 'DENY')
        .header('cross-origin-opener-policy', 'same-origin')
        .header('cross-origin-resource-policy', 'same-origin');
      done();
    },
    errorHandler: (error: unknown, request: FastifyRequest, reply: FastifyReply) => {
      const known = errorOf(error);
      const status = known === undefined ? 500 : httpStatus(known);
      request.facts = { ...request.facts, code: codeIn(known) };
      if (known === undefined) log(errorEntry('error', 'internal error', error, request.id));
      else if (status >= 500) log(errorEntry('warn', known.message, known, request.id));
      if (status === 503 || status === 429) reply.header('retry-after', Math.ceil(known?.retryAfter ?? 5));
      const title = titles[status] ?? 'This cannot be shown';
      const sentence = known?.message ?? 'This is a bug of Nexus; its log tells more.';
      return send(
        request,
        reply,
        sentencePage(status, title, sentence, known?.hint),
        request.caller ?? undefined,
      );
    },
  };

  for (const [url, page] of pages)
    app.get(url, common, async (request, reply) => {
      const caller = await access.callerOf(request);
      if (caller === undefined) return askToSignIn(request, reply);
      request.caller = caller;
      await look((error) => failedLook(request, error));
      const view: View = {
        caller,
        timeZone,
        usage: usageWithin(usage, caller),
        sessions,
        webhooks,
        hosts,
        failed: (error) => failedPart(request, caller, error),
        root: rootOf(request),
        now: now(),
        params: paramsOf(request),
        query: queryOf(request),
      };
      return send(request, reply, await page(view), caller);
    });

  function askToSignIn(request: FastifyRequest, reply: FastifyReply): FastifyReply {
    const site = headerOf(request, 'sec-fetch-site');
    // Who follows a link from elsewhere comes without the cookie, though signed in. A page of ours that loads itself
    // again is no longer from elsewhere.
    if (site === 'cross-site' || site === 'same-site')
      return reply
        .type('text/html; charset=utf-8')
        .send(
          '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0"><title>Nexus</title>',
        );
    const to = request.url.slice(1);
    const query = to === '' ? '' : `?${new URLSearchParams({ to }).toString()}`;
    return reply.redirect(`${rootOf(request)}sign-in${query}`, 303);
  }

  app.get('/sign-in', common, async (request, reply) => {
    const to = placeOf(queryOf(request).get('to') ?? '');
    if (!(await access.needsKey()) || (await access.callerOf(request)) !== undefined)
      return reply.redirect(`./${to}`, 303);
    return send(request, reply, signInPage({ to, action: './sign-in' }));
  });

  app.post('/sign-in', common, async (request, reply) => {
    let to = '';
    try {
      const form = await access.formOf(request);
      to = placeOf(form.get('to') ?? '');
      await access.signIn(request, reply, form.get('key') ?? '');
      return reply.redirect(`./${to}`, 303);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      const status = httpStatus(error);
      request.facts = { ...request.facts, code: error.code };
      if (error.retryAfter !== undefined) reply.header('retry-after', Math.ceil(error.retryAfter));
      const page = signInPage({ to, action: './sign-in', refusal: describe(error) });
      return send(request, reply, { ...page, status });
    }
  });

  app.post('/sign-out', common, async (request, reply) => {
    await access.signOut(request, reply);
    return reply.redirect('./sign-in', 303);
  });

  app.get<{ Params: { name: string } }>('/assets/:name', common, (request, reply) => {
    const asset = assets.named(request.params.name);
    if (asset === undefined)
      return send(
        request,
        reply,
        sentencePage(404, 'Not here', 'There is no such file: load the page again.'),
      );
    const zipped = /\bgzip\b/.test(headerOf(request, 'accept-encoding') ?? '');
    if (zipped) reply.header('content-encoding', 'gzip');
    return reply
      .type(asset.type)
      .header('cache-control', 'public, max-age=31536000, immutable')
      .header('vary', 'accept-encoding')
      .send(zipped ? asset.gzipped : asset.body);
  });
}

/** Why something failed that is of all agents: whoever may see some of them only is not told of the others. */
function reasonFor({ agents }: Caller, error: unknown): string {
  const known = errorOf(error);
  return known === undefined || agents !== '*' ? 'the log of the endpoint tells why.' : describe(known);
}

const titles: Record<number, string> = {
  400: 'This cannot be asked',
  403: 'Not with this key',
  404: 'Not here',
  429: 'Too many tries',
  500: 'Something is wrong',
  503: 'Not now',
};

/** Where a form or a redirect may lead: a page of the dashboard, whatever a link says. */
function placeOf(to: string): string {
  return /^(?:usage|sessions|webhooks)(?:[/?][\x21-\x7e]*)?$|^\?[\x21-\x7e]*$/.test(to) && !to.includes('\\')
    ? to
    : '';
}

function rootOf(request: FastifyRequest): string {
  const [path = '/'] = request.url.split('?', 1);
  const depth = path.split('/').length - 2;
  return depth <= 0 ? './' : '../'.repeat(depth);
}

function paramsOf({ params }: FastifyRequest): Record<string, string> {
  return Object.fromEntries(Object.entries(params ?? {}).map(([name, value]) => [name, String(value)]));
}

function queryOf(request: FastifyRequest): URLSearchParams {
  return new URLSearchParams(request.url.split('?').slice(1).join('?'));
}
