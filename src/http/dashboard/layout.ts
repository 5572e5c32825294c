import { formatAge, formatBytes, formatItems } from '../../format.ts';
import type { Standing } from '../../usage.ts';
import type { Assets } from './assets.ts';
import { html, type Html } from './html.ts';

/** A page without what is around each. */
export interface Page {
  title: string;
  /** Which entry of the navigation it belongs to. */
  at?: Place | undefined;
  body: Html;
  /** Shown at the foot: how much the figures rest on. */
  standing?: Standing | undefined;
  status?: number;
}

export const places = ['overview', 'usage', 'sessions', 'webhooks'] as const;
export type Place = (typeof places)[number];

const names: Record<Place, string> = {
  overview: 'Overview',
  usage: 'Usage',
  sessions: 'Sessions',
  webhooks: 'Webhooks',
};

export interface Frame {
  assets: Assets;
  /** From the page to the dashboard's own beginning: `./`, `../`, …; it may lie below a proxy's prefix. */
  root: string;
  now: Date;
  version: string;
  /** `undefined` where nobody is let in yet; `null` where no key is needed. */
  signedIn: { key: string } | null | undefined;
  timeZone: string;
  /** Why changes could not be looked for. */
  trouble: string | undefined;
}

/** Everything comes from this origin, nothing runs or is styled from within the page. */
export const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "form-action 'self'",
  "frame-ancestors 'none'",
  "base-uri 'none'",
].join('; ');

export function layOutPage(page: Page, frame: Frame): string {
  const { assets, root, signedIn } = frame;
  const shown = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${page.title} · Nexus</title>
<link rel="icon" type="image/svg+xml" href="${root}assets/${assets.icon.name}">
<link rel="stylesheet" href="${root}assets/${assets.style.name}">
<script type="module" src="${root}assets/${assets.script.name}"></script>
</head>
<body>
<a class="skip" href="#main">To the content</a>
<header class="top">
<a class="brand" href="${root}"><img src="${root}assets/${assets.icon.name}" width="24" height="24" alt="">Nexus</a>
${signedIn === undefined ? html`` : navigation(page.at, root)}
${
  signedIn === undefined || signedIn === null
    ? html``
    : html`<form class="who" method="post" action="${root}sign-out"><span title="Signed in with this key">${signedIn.key}</span><button>Sign out</button></form>`
}
</header>
<main id="main">
${page.body}
</main>
<footer>
${page.standing === undefined ? html`` : standingLine(page.standing, frame)}
<p>Nexus ${frame.version}</p>
</footer>
</body>
</html>
`;
  return shown.toString();
}

function navigation(at: Place | undefined, root: string): Html {
  return html`<nav aria-label="Pages">${places.map(
    (place) =>
      html`<a href="${root}${place === 'overview' ? '' : place}"${place === at ? html` aria-current="page"` : ''}>${names[place]}</a>`,
  )}</nav>`;
}

/** As of when the figures hold, and what is not in them. */
function standingLine(standing: Standing, { now, timeZone, trouble }: Frame): Html {
  const { asOf, coverage, uncounted, lostPrices = 0 } = standing;
  const whole = standing.complete && uncounted === 0 && lostPrices === 0;
  if (asOf === null)
    return html`<p class="standing warn" role="status"><span class="dot"></span>The archive has not been looked through yet: these figures are not the whole. ${trouble === undefined ? 'Reload in a moment.' : html`That failed: ${trouble}`}</p>`;
  const time = html`<time datetime="${asOf}" title="${asOf}">${formatAge(new Date(asOf), now)}</time>`;
  const unread = coverage.bytes - coverage.bytesRead;
  const missing = [
    ...(coverage.unread > 0
      ? [
          `${formatItems(coverage.unread, 'transcript')}${unread > 0 ? ` with ${formatBytes(unread)}` : ''} still to be read`,
        ]
      : []),
    ...(coverage.unreadable.count > 0
      ? [`${formatItems(coverage.unreadable.count, 'transcript')} cannot be read`]
      : []),
    ...(uncounted > 0 ? [`${formatItems(uncounted, 'line')} could not be counted`] : []),
    ...(lostPrices > 0
      ? [`${formatItems(lostPrices, 'day')} of prices from openclaw.json cannot be read`]
      : []),
  ];
  return html`<p class="standing${whole && trouble === undefined ? '' : ' warn'}" role="status"><span class="dot"></span>${
    whole
      ? html`Everything that was stored is counted, as of ${time}.`
      : html`Not the whole, as of ${time}${missing.length === 0 ? '' : `: ${missing.join(', ')}`}.`
  } Days are those of ${timeZone}.${trouble === undefined ? '' : html` Changes since then could not be looked for: ${trouble}`}</p>`;
}

/** A page of one sentence, for what went wrong. */
export function sentencePage(status: number, title: string, sentence: string, hint?: string): Page {
  return {
    status,
    title,
    body: html`<section class="card narrow"><h1>${title}</h1><p>${sentence}</p>${hint === undefined ? '' : html`<p class="quiet">${hint}</p>`}</section>`,
  };
}

/** Says what is to be done where nothing is to be shown; of figures that are not the whole, only that. */
export function empty(sentence: string, next: Html, standing?: Pick<Standing, 'complete'>): Html {
  if (standing?.complete === false)
    return empty('Nothing yet: not all that is stored has been read.', html`Reload in a moment.`);
  return html`<div class="empty"><p>${sentence}</p><p class="quiet">${next}</p></div>`;
}
