import { needHeader, type Scheme } from './scheme.ts';
import { token } from './token.ts';

/** The `secret_token` that was given to `setWebhook`. Nothing is signed. */
export const telegram: Scheme = (head) => token(needHeader(head, 'x-telegram-bot-api-secret-token'));
