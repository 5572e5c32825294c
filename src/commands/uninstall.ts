import { existsSync } from 'node:fs';
import path from 'node:path';
import type { Surroundings } from '../context.ts';
import { exit, NexusError } from '../errors.ts';
import { type Mode, openSystemctl } from '../systemd/systemctl.ts';
import { ownership, removeFile, unitDirectory } from '../systemd/unitfiles.ts';
import { unitsOf } from '../systemd/units.ts';
import { isRoot, usersFile } from './install.ts';
import { endpointHome, endpointUser } from './installsite.ts';

export interface UninstallOptions {
  mode: Mode | undefined;
  /** Also what somebody changed since it was written. */
  force: boolean;
}

/** Stops and removes what `nexus install` wrote, and no data. 3 when a file stays because somebody changed it. */
export async function uninstall(given: Surroundings, options: UninstallOptions): Promise<number> {
  const { env, output } = given;
  const mode = options.mode ?? (isRoot() ? 'system' : 'user');
  if (mode === 'system' && !isRoot())
    throw new NexusError('forbidden', 'Units of the system are for root to remove.', {
      hint: 'Run `sudo nexus uninstall --system`, or `nexus uninstall --user` for those of this user.',
    });
  const directory = unitDirectory(mode, env);
  const found: { unit: string; file: string }[] = [];
  const kept: string[] = [];
  for (const unit of unitsOf('both')) {
    const file = path.join(directory, unit);
    const whose = await ownership(file);
    if (whose === 'absent') continue;
    if (whose === 'ours' || (whose === 'edited' && options.force)) found.push({ unit, file });
    else kept.push(file);
  }
  const did: string[] = [];
  const say = (what: string) => {
    did.push(what);
    output.info(what);
  };
  const users = mode === 'system' ? await ownership(usersFile) : 'absent';
  if (found.length > 0) {
    const systemctl = await openSystemctl(mode, env);
    const units = found.map(({ unit }) => unit).filter((unit) => !unit.includes('@'));
    // Timers first, so that nothing is started anew; a job finishes the item in hand.
    const timers = units.filter((unit) => unit.endsWith('.timer'));
    const services = units.filter((unit) => unit.endsWith('.service'));
    if (timers.length > 0) await systemctl.run('disable', '--quiet', '--now', ...timers);
    if (services.length > 0) await systemctl.run('disable', '--quiet', '--now', ...services);
    await systemctl.try('stop', 'nexus-alert@*.service');
    // What systemd itself keeps: when a timer last fired, and the cache of compiled code.
    for (const timer of timers) await systemctl.try('clean', '--what=state', timer);
    // Of a template any instance will do.
    for (const service of [
      ...services.filter((unit) => unit !== 'nexus-serve.service'),
      'nexus-alert@x.service',
    ])
      await systemctl.try('clean', '--what=cache', service);
    for (const { file } of found) {
      await removeFile(file);
      say(`removed ${file}`);
    }
    await systemctl.run('daemon-reload');
    await systemctl.try('reset-failed', 'nexus-*');
  }
  if (users === 'ours') {
    await removeFile(usersFile);
    say(`removed ${usersFile}`);
  }
  const dropIns = unitsOf('both')
    .map((unit) => path.join(directory, `${unit}.d`))
    .filter((one) => existsSync(one));
  const wasBoth = ['nexus-serve.service', 'nexus-upload.service'].every((one) =>
    found.some(({ unit }) => unit === one),
  );
  const left = mode === 'system' && existsSync(endpointHome) ? [endpointHome] : [];
  for (const file of kept) output.warn(`${file} stays: somebody changed it since. Remove it with --force.`);
  if (output.json)
    output.result({ command: 'uninstall', ok: kept.length === 0, mode, did, kept, schemaVersion: 1 });
  else {
    if (did.length === 0 && kept.length === 0) output.result('Nothing of Nexus was installed here.');
    else output.result('Data, configuration and inboxes stay where they are.');
    if (dropIns.length > 0) output.info(`So do the drop-ins of others: ${dropIns.join(', ')}.`);
    if (mode === 'system' && wasBoth)
      output.info('For jobs by hand without that endpoint: `nexus config unset endpoint`.');
    if (left.length > 0)
      output.info(`So do ${endpointHome} and its user: \`userdel -r ${endpointUser}\` deletes that archive.`);
  }
  return kept.length === 0 ? exit.done : exit.someFailed;
}
