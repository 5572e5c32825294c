import { mkdtemp, readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { asOf, type Site, startSite, unpack } from './artifact.ts';
import { openCommands } from './commands.ts';
import { type Front, openFront } from './front.ts';

type Settings = Record<string, string>;

/** What a swap exchanges. */
interface Content {
  settings: Settings;
  directory?: string;
  site?: Site;
}

interface Slot {
  front: Front;
  stopped: boolean;
  /** Settings that stay with the slot. */
  own: Settings;
  content: Content;
}

/**
 * An App Service app with a slot, on this machine: sites are real processes behind a front, and `az` keeps the rules
 * that deploying stands on. A deployment restarts the slot with its settings; a swap asks the slot's version whether it
 * is well, exchanges nothing where it is not, and loses no request. A slot that is stopped answers nothing.
 */
export async function openAppService(directory: string, own: Settings) {
  const faults: {
    /** Asked before each command: what it throws is that command's failure; 'lost' is one that has no effect. */
    before?: (words: string) => 'lost' | void;
    /** What it throws is the failure of a swap that is done. */
    afterSwap?: () => Promise<void> | void;
    /** Production answers nothing. */
    silent?: boolean;
    /** How long what ran before a deployment runs on after it, in ms. */
    lateMs?: number;
  } = {};
  const slots: Record<string, Slot> = {};
  for (const name of ['production', 'staging']) {
    const front = await openFront(() =>
      name === 'production' && faults.silent === true ? undefined : slots[name]?.content.site?.port,
    );
    slots[name] = { front, stopped: false, own, content: { settings: {} } };
  }
  const late: Promise<void>[] = [];

  async function restart({ content, own: kept, stopped }: Slot): Promise<void> {
    await content.site?.kill('SIGTERM');
    delete content.site;
    if (content.directory === undefined || stopped) return;
    content.site = await startSite(content.directory, asOf({ ...kept, ...content.settings }));
  }
  function slotOf(name: string): Slot {
    const slot = slots[name === '' ? 'production' : name];
    if (slot === undefined) throw new Error(`The slot ${name} was not found.`);
    return slot;
  }

  const commands = await openCommands(directory, async ({ words, flag, flags }) => {
    if (flag('resource-group') !== 'group' || flag('name') !== 'app') throw new Error('ResourceNotFound');
    if (faults.before?.(words) === 'lost') return '';
    const slot = slotOf(flag('slot'));
    const { content } = slot;
    switch (words) {
      case 'az webapp config appsettings set': {
        const [file = '', ...more] = flags('settings');
        if (!file.startsWith('@') || more.length > 0) throw new Error('settings are not taken from a file');
        Object.assign(content.settings, JSON.parse(await readFile(file.slice(1), 'utf8')));
        return '';
      }
      case 'az webapp deploy': {
        if (flag('type') !== 'zip') throw new Error('not a zip');
        content.directory = await mkdtemp(path.join(directory, 'wwwroot-'));
        await unpack(flag('src-path'), content.directory);
        if (faults.lateMs === undefined) await restart(slot);
        else late.push(sleep(faults.lateMs).then(() => restart(slot)));
        return '';
      }
      case 'az webapp stop':
      case 'az webapp start': {
        const stopped = words.endsWith('stop');
        if (stopped === slot.stopped) return '';
        slot.stopped = stopped;
        await restart(slot);
        return '';
      }
      case 'az webapp show':
        if (flag('query') !== 'defaultHostName' || flag('output') !== 'tsv') throw new Error('not that way');
        return `${slot.front.host}\n`;
      case 'az webapp deployment slot swap': {
        const other = slotOf(flag('target-slot'));
        if (flag('action') === 'reset') return '';
        if (slot.stopped) throw new Error('Cannot swap a slot that is stopped.');
        const { WEBSITE_SWAP_WARMUP_PING_PATH: ping = '/' } = content.settings;
        const warm = await fetch(`${content.site?.url}${ping}`).then(
          ({ status }) => status,
          () => 0,
        );
        if (
          content.settings['WEBSITE_SWAP_WARMUP_PING_STATUSES']?.split(',').includes(String(warm)) === false
        )
          throw new Error(`Cannot swap slots, the slot is not warm: ${warm}.`);
        [slot.content, other.content] = [other.content, content];
        await faults.afterSwap?.();
        return '';
      }
      default:
        throw new Error(`There is no command ${words}.`);
    }
  });

  return {
    ...commands,
    faults,
    url: slotOf('').front.url,
    slotUrl: slotOf('staging').front.url,
    site: (): Site | undefined => slotOf('').content.site,
    settings: (name: string): Settings => slotOf(name).content.settings,
    /** kill -9 of what has the traffic; it starts again as on another machine, with an empty disk. */
    async crash(): Promise<void> {
      const slot = slotOf('');
      await slot.content.site?.kill('SIGKILL');
      await restart(slot);
    },
    /** Resolves when what comes late has come. */
    settled: async () => void (await Promise.all(late)),
    async close(): Promise<void> {
      await Promise.all(late);
      for (const { front, content } of Object.values(slots)) {
        await front.close();
        await content.site?.kill('SIGKILL');
      }
      await commands.close();
    },
  };
}
