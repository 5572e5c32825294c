import { cp, mkdtemp } from 'node:fs/promises';
import path from 'node:path';
import { asOf, type Site, startSite } from './artifact.ts';
import { openCommands } from './commands.ts';
import { openFront } from './front.ts';

interface Revision {
  env: Record<string, string>;
  /** Of the image that an app is made with there is none. */
  site: Site | undefined;
  active: boolean;
  front: Awaited<ReturnType<typeof openFront>>;
}

/**
 * A container app with several revisions, on this machine: an image is a directory, and a revision a real process. A
 * new revision gets the traffic at once where the traffic is the latest's.
 */
export async function openContainerApps(directory: string, own: Record<string, string>) {
  const built = new Map<string, string>();
  const pushed = new Set<string>();
  const revisions = new Map<string, Revision>();
  let traffic: Record<string, number> = { latest: 100 };
  let latest = 'app--made';
  revisions.set(latest, { env: {}, site: undefined, active: true, front: await openFront(() => undefined) });
  const faults: {
    /** Asked before each command: what it throws is that command's failure. */
    before?: (words: string) => void;
    /** What it throws is the failure of an update that is done. */
    afterUpdate?: () => void;
    afterTraffic?: () => Promise<void> | void;
  } = {};

  const shares = (): [name: string, share: number][] =>
    Object.entries(traffic)
      .filter(([, share]) => share > 0)
      .map(([name, share]) => [name === 'latest' ? latest : name, share]);
  const serving = (): Revision | undefined => revisions.get(shares()[0]?.[0] ?? '');
  const front = await openFront(() => serving()?.site?.port);

  const commands = await openCommands(directory, async ({ words, flag, flags }) => {
    faults.before?.(words);
    switch (words) {
      // `az acr show` is not for who may push.
      case 'az acr login':
        return '';
      case 'az containerapp revision list':
        if (flag('query') !== '[?properties.trafficWeight>`0`].[name, properties.trafficWeight]')
          throw new Error('not that way');
        return shares()
          .map(([name, share]) => `${name}\t${share}\n`)
          .join('');
      case 'az containerapp ingress traffic set':
        traffic = Object.fromEntries(
          flags('revision-weight').map((weight) => {
            const [name = '', share = ''] = weight.split('=');
            if (name !== 'latest' && revisions.get(name)?.active !== true)
              throw new Error(`The revision ${name} does not run.`);
            return [name, Number(share)];
          }),
        );
        if (Object.values(traffic).reduce((sum, share) => sum + share, 0) !== 100) throw new Error('not 100');
        await faults.afterTraffic?.();
        return '';
      case 'az containerapp update': {
        const image = flag('image');
        const source = built.get(image);
        if (source === undefined || !pushed.has(image)) throw new Error('MANIFEST_UNKNOWN');
        const name = `${flag('name')}--${flag('revision-suffix')}`;
        if (revisions.has(name)) throw new Error(`A revision ${name} exists already.`);
        if (!/^[a-z][a-z0-9-]*[a-z0-9]$/.test(name) || name.length > 63)
          throw new Error(`Invalid name ${name}`);
        const env = {
          ...own,
          ...revisions.get(latest)?.env,
          ...Object.fromEntries(flags('set-env-vars').map((one) => one.split(/=(.*)/s, 2))),
        };
        const revision: Revision = {
          env,
          active: true,
          site: await startSite(source, asOf(env)),
          front: await openFront(() => revision.site?.port),
        };
        revisions.set(name, revision);
        latest = name;
        faults.afterUpdate?.();
        return '';
      }
      case 'az containerapp revision show':
        return `${revisions.get(flag('revision'))?.front.host}\n`;
      case 'az containerapp show':
        return `${front.host}\n`;
      case 'az containerapp revision deactivate': {
        const revision = revisions.get(flag('revision'));
        if (revision === undefined) throw new Error('RevisionNotFound');
        await revision.site?.kill('SIGTERM');
        Object.assign(revision, { site: undefined, active: false });
        return '';
      }
      default:
        if (words === 'docker build') {
          const [image = ''] = flags('tag');
          const [, context = ''] = flags('file');
          const kept = await mkdtemp(path.join(directory, 'image-'));
          await cp(context, kept, { recursive: true });
          built.set(image, kept);
          return '';
        }
        if (words === 'docker push') {
          pushed.add(flag('quiet'));
          return '';
        }
        throw new Error(`There is no command ${words}.`);
    }
  });

  return {
    ...commands,
    faults,
    url: front.url,
    site: (): Site | undefined => serving()?.site,
    /** As it is when the app was made: the traffic is the latest revision's, whichever that is. */
    followLatest: () => void (traffic = { latest: 100 }),
    split: () => void (traffic = { latest: 50, 'app--made': 50 }),
    /** The revisions that answer. */
    running: () => [...revisions].filter(([, { site }]) => site !== undefined).map(([name]) => name),
    async close(): Promise<void> {
      await front.close();
      for (const revision of revisions.values()) {
        await revision.front.close();
        await revision.site?.kill('SIGKILL');
      }
      await commands.close();
    },
  };
}
