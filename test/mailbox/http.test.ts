import { temporaryStore } from '../port/local.ts';
import { describeRoutes } from './overhttp.ts';

describeRoutes('over HTTP', temporaryStore);
