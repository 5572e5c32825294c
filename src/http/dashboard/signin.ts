import { html } from './html.ts';
import type { Page } from './layout.ts';

/** The form for a key. */
export function signInPage({
  to,
  action,
  refusal,
}: {
  /** Where to go on. */
  to: string;
  action: string;
  refusal?: string;
}): Page {
  return {
    title: 'Sign in',
    body: html`<section class="card narrow">
<h1>Sign in</h1>
${refusal === undefined ? '' : html`<p class="refusal" role="alert">${refusal}</p>`}
<form class="signin" method="post" action="${action}">
<input type="hidden" name="to" value="${to}">
<input class="away" type="text" name="username" value="nexus" autocomplete="username" tabindex="-1" aria-hidden="true">
<label for="key">Key</label>
<input id="key" name="key" type="password" required autofocus autocomplete="current-password" autocapitalize="off" spellcheck="false" placeholder="nxk_…" maxlength="512">
<button class="main">Sign in</button>
</form>
<p class="quiet">Any key of scope <code>read</code> will do. On the machine of the endpoint, <code>nexus keys add NAME --scopes read</code> makes one; with <code>--agents</code> it sees those agents only.</p>
</section>`,
  };
}
