import { github } from './github.ts';
import type { Scheme } from './scheme.ts';

/** Meta (Facebook, Instagram, WhatsApp) signs as GitHub does, with the app's secret. */
export const meta: Scheme = github;
