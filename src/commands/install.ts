import { existsSync } from 'node:fs';
import { chown, mkdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { otherMailer, privilegedMailer } from '../channels/mailer.ts';
import type { Surroundings } from '../context.ts';
import type { Output } from '../output.ts';
import { errnoOf } from '../diskerrors.ts';
import { exit, NexusError } from '../errors.ts';
import { asAccount, findAccount } from '../systemd/account.ts';
import { runCommand } from '../systemd/command.ts';
import { type Mode, openSystemctl, type Systemctl, type UnitState } from '../systemd/systemctl.ts';
import { ownership, type Standing, standingOf, unitDirectory, writeMarked } from '../systemd/unitfiles.ts';
import { type Role, rolesOf, unitsOf } from '../systemd/units.ts';
import { checkUnits, showUnits } from './installcheck.ts';
import { archiveLeft, giveKey, withEndpoint } from './installkey.ts';
import { type Plan, planOf } from './installplan.ts';
import { isVersioned, thisProgram } from './installprogram.ts';
import { endpointHome, endpointSite, endpointUser, hostSite, remembered } from './installsite.ts';

export interface InstallOptions {
  /** Root's is the system's, anybody else's their own. */
  mode: Mode | undefined;
  /** What is installed already, else the host's. */
  role: Role | undefined;
  dryRun: boolean;
  /** Also what somebody changed since it was written. */
  force: boolean;
}

/** What `nexus install` did, as `--json` prints it. */
interface Done {
  unit: string;
  path: string;
  action: 'written' | 'updated' | 'unchanged' | 'kept';
}

/**
 * Writes, enables and starts the units of this machine and looks whether they run. What is as it should be is left
 * alone. 3 when a unit does not run, or is kept though it should be another.
 */
export async function install(given: Surroundings, options: InstallOptions): Promise<number> {
  const { env, output } = given;
  const mode = options.mode ?? (isRoot() ? 'system' : 'user');
  if (mode === 'system' && !isRoot() && !options.dryRun)
    throw new NexusError('forbidden', 'Units of the system are for root to install.', {
      hint: 'Run `sudo nexus install --system`, or `nexus install --user` for this user alone.',
    });
  const plan = await makePlan(given, mode, options.role);
  const others = await otherRole(plan, unitDirectory(mode, env));
  if (options.dryRun) return await preview(given, plan, others);

  const systemctl = await openSystemctl(mode, env);
  const did: string[] = [];
  const say = (what: string) => {
    did.push(what);
    output.info(what);
  };
  const ready = await withUsers(given, plan, say);
  await makeDirectories(ready, say, output.warn);
  const left = await archiveLeft(ready);
  if (left !== undefined) throw left;
  await giveKey(ready, given, say);
  const units = await writeUnits(ready, options.force, say);
  await startUnits(ready, units, systemctl, say);
  await warnOf(ready, given);
  const { states, problems } = await checkUnits(ready, systemctl, env);
  for (const { unit, path: file, action } of units)
    if (action === 'kept')
      problems.push(
        `${file} was changed by hand and is not what this version would write; put the changes in a drop-in (systemctl edit ${unit}) and run \`nexus install --force\`.`,
      );
  sayOthers(output, ready, others);
  report(given, ready, units, states, did, problems, others);
  return problems.length === 0 ? exit.done : exit.someFailed;
}

async function makePlan(asked: Surroundings, mode: Mode, said: Role | undefined): Promise<Plan> {
  const directory = unitDirectory(mode, asked.env);
  const role = said ?? installedRole(directory);
  const given = remembered(asked, directory, role);
  const host = role === 'endpoint' ? undefined : await hostSite(given, mode);
  const endpoint = role === 'host' ? undefined : await endpointSite(given, mode, host === undefined);
  const told = host === undefined ? undefined : withEndpoint(host, endpoint);
  return planOf(mode, role, { host: told, endpoint }, thisProgram(given, host?.account.home), directory);
}

function installedRole(directory: string): Role {
  const there = rolesOf(unitsOf('both').filter((unit) => existsSync(path.join(directory, unit))));
  return there.endpoint ? (there.host ? 'both' : 'endpoint') : 'host';
}

/** Units of another role than the one that is installed now, which go on. */
async function otherRole({ files }: Plan, directory: string): Promise<string[]> {
  const others = unitsOf('both').filter((unit) => !files.some((file) => file.unit === unit));
  const found = await Promise.all(others.map((unit) => ownership(path.join(directory, unit))));
  return others.filter((_, n) => found[n] === 'ours' || found[n] === 'edited');
}

function sayOthers({ warn }: Output, { mode, role }: Plan, others: readonly string[]): void {
  if (others.length === 0) return;
  const nexus = mode === 'user' ? 'nexus' : 'sudo nexus';
  warn(
    `What is here beside the role ${role} goes on: ${others.join(', ')}. To be without it: \`${nexus} uninstall && ${nexus} install --role ${role}\`.`,
  );
}

export const usersFile = '/etc/sysusers.d/nexus.conf';
const users = `u ${endpointUser} - "Nexus endpoint" ${endpointHome}\n`;

/** The units as they would be written, and what would be done with them. */
async function preview({ output }: Surroundings, plan: Plan, others: readonly string[]): Promise<number> {
  const files = await Promise.all(
    plan.files.map(async (file) => ({ ...file, standing: await standingOf(file.path, file.text) })),
  );
  const actions: Record<Standing, string> = {
    absent: 'write',
    older: 'update',
    outdated: 'keep, changed by hand',
    foreign: 'keep, not written by nexus',
    edited: 'keep, changed by hand',
    same: 'leave as it is',
  };
  const left = await archiveLeft(plan);
  const { host } = plan;
  const gives =
    host?.newEndpoint === true ? { endpoint: host.config.endpoint, configPath: host.configPath } : undefined;
  warnOfVersions(plan, output);
  sayOthers(output, plan, others);
  if (output.json) {
    const units = files.map(({ unit, path: file, text, standing }) => ({
      unit,
      path: file,
      standing,
      text,
    }));
    output.result({
      command: 'install',
      ok: true,
      dryRun: true,
      mode: plan.mode,
      role: plan.role,
      ...(needsUser(plan) ? { sysusers: { path: usersFile, text: users } } : {}),
      units,
      ...(gives === undefined ? {} : { gives }),
      enable: enabledOf(plan),
      otherUnits: others,
      ...(left === undefined ? {} : { refused: { message: left.message, hint: left.hint } }),
      schemaVersion: 1,
    });
    return exit.done;
  }
  if (needsUser(plan)) output.result(`# write ${usersFile}\n${users}# systemd-sysusers ${usersFile}\n`);
  for (const { path: file, text, standing } of files)
    output.result(`# ${actions[standing]}: ${file}\n${text}`);
  const scope = plan.mode === 'user' ? 'systemctl --user' : 'systemctl';
  if (left !== undefined) output.result(`# not before this is done: ${left.message} ${left.hint}`);
  if (gives !== undefined)
    output.result(`# give the jobs ${gives.endpoint} and a key, in ${gives.configPath}`);
  output.result(`# ${scope} daemon-reload`);
  output.result(`# ${scope} enable --now ${enabledOf(plan).join(' ')}`);
  return exit.done;
}

function needsUser({ mode, endpoint }: Plan): boolean {
  return mode === 'system' && endpoint?.account.name === endpointUser;
}

/** Makes the endpoint's user where there is none, and says who it is. */
async function withUsers({ env }: Surroundings, plan: Plan, say: (what: string) => void): Promise<Plan> {
  const { endpoint } = plan;
  if (endpoint === undefined || !needsUser(plan)) return plan;
  if ((await standingOf(usersFile, users)) !== 'same') {
    await writeMarked(usersFile, users);
    say(`wrote ${usersFile}`);
  }
  if (endpoint.account.uid >= 0) return plan;
  const { status, stderr } = await runCommand('systemd-sysusers', [usersFile], { env });
  const account = await findAccount(endpointUser, env);
  if (status !== 0 || account === undefined)
    throw new NexusError('unavailable', `The user ${endpointUser} could not be made: ${stderr.trim()}`);
  say(`made the user ${endpointUser}`);
  const site = { ...endpoint, account };
  const directories = plan.directories.map((one) => (one.site === endpoint ? { ...one, site } : one));
  return { ...plan, endpoint: site, directories };
}

/** Units can only be given directories that are there. */
async function makeDirectories(
  plan: Plan,
  say: (what: string) => void,
  warn: (text: string) => void,
): Promise<void> {
  const { endpoint } = plan;
  if (endpoint !== undefined && needsUser(plan) && !existsSync(endpointHome)) {
    await mkdir(endpointHome, { mode: 0o700 });
    await chown(endpointHome, endpoint.account.uid, endpoint.account.gid);
    say(`made ${endpointHome}`);
  }
  for (const { path: directory, site, parent } of plan.directories) {
    if (existsSync(directory)) continue;
    try {
      await asAccount(site.account, () => mkdir(directory, { recursive: parent, mode: 0o700 }));
      say(`made ${directory}`);
    } catch (error) {
      if (errnoOf(error) === undefined) throw error;
      if (!parent && errnoOf(error) === 'ENOENT')
        warn(
          `There is no ${path.dirname(directory)} yet: run \`nexus install\` again when there is, or no webhook can be put there.`,
        );
      else
        throw new NexusError('forbidden', `${directory} cannot be made (${errnoOf(error)}).`, {
          cause: error,
        });
    }
  }
}

async function writeUnits(plan: Plan, force: boolean, say: (what: string) => void): Promise<Done[]> {
  const done: Done[] = [];
  for (const { unit, path: file, text } of plan.files) {
    const standing = await standingOf(file, text);
    const action = actionOf(standing, force);
    if (action === 'written' || action === 'updated') {
      await writeMarked(file, text);
      say(`${action === 'written' ? 'wrote' : 'updated'} ${file}`);
    }
    done.push({ unit, path: file, action });
  }
  return done;
}

function actionOf(standing: Standing, force: boolean): Done['action'] {
  if (standing === 'absent') return 'written';
  if (standing === 'same') return 'unchanged';
  // Changed by hand, and there is nothing new for it.
  if (standing === 'edited' && !force) return 'unchanged';
  return standing === 'older' || force ? 'updated' : 'kept';
}

/** Those that are started by themselves; the others by timers, or when one fails. */
function enabledOf(plan: Plan): string[] {
  return plan.files
    .map(({ unit }) => unit)
    .filter((unit) => unit.endsWith('.timer') || unit === 'nexus-serve.service' || unit === backfill);
}

const backfill = 'nexus-backfill.service';

async function startUnits(
  plan: Plan,
  units: readonly Done[],
  systemctl: Systemctl,
  say: (what: string) => void,
): Promise<void> {
  const changed = new Set(
    units.filter(({ action }) => action === 'written' || action === 'updated').map(({ unit }) => unit),
  );
  // An installation before this one may have been killed at any step.
  const files = new Map(plan.files.map((file) => [file.unit, file]));
  const standing = await Promise.all(plan.files.map(({ unit }) => systemctl.state(unit)));
  if (changed.size > 0 || standing.some(({ needsReload }) => needsReload))
    await systemctl.run('daemon-reload');
  for (const unit of enabledOf(plan)) {
    const before = await systemctl.state(unit);
    const isNewer = await isNewerThan(before.since, files.get(unit));
    if (!before.enabled) {
      await systemctl.run('enable', '--quiet', unit);
      say(`enabled ${unit}`);
    }
    const verb = verbFor(before, changed.has(unit) || isNewer);
    if (verb === undefined) continue;
    // A backfill takes its time; one that does not start is told by what is looked at afterwards.
    const { status, stderr } = await systemctl.try(verb, ...(unit === backfill ? ['--no-block'] : []), unit);
    say(
      status === 0
        ? `${verb}ed ${unit}`
        : `could not ${verb} ${unit}: ${stderr.trim().split('\n').join(' ')}`,
    );
  }
}

/** What somebody changed is for them to take into use. */
async function isNewerThan(since: number, file: Plan['files'][number] | undefined): Promise<boolean> {
  if (file === undefined || (await standingOf(file.path, file.text)) !== 'same') return false;
  return (await stat(file.path)).mtimeMs > since;
}

function verbFor(state: UnitState, changed: boolean): 'start' | 'restart' | undefined {
  const runs = state.active === 'active' || state.active === 'activating';
  // One that runs goes on as it began; one that has ended well is done.
  if (state.unit === backfill)
    return runs || (state.started && state.result === 'success') ? undefined : 'start';
  if (!runs) return 'start';
  return changed ? 'restart' : undefined;
}

/** Units that name a version are without a program when that version is removed, and the one that tells of it is too. */
function warnOfVersions({ program }: Plan, { warn }: Output): void {
  for (const [what, file] of [
    ['Node', program.node],
    ['Nexus', program.script],
  ] as const)
    if (isVersioned(file))
      warn(
        `Units call ${what} by a path of this version alone, ${file}: run \`nexus install\` again after each upgrade, before the old one is removed, or put one on the PATH by a name that stays.`,
      );
}

/** What units cannot do as things are, and a run by hand can. */
async function warnOf(plan: Plan, { env, output }: Surroundings): Promise<void> {
  const { host, endpoint, program } = plan;
  const { warn } = output;
  warnOfVersions(plan, output);
  const channels = (host ?? endpoint)?.config.alerts.channels ?? [];
  const mailer = channels.some(({ kind }) => kind === 'email') ? await privilegedMailer(env) : undefined;
  if (mailer !== undefined)
    warn(
      `No alert will go out by e-mail: ${mailer} needs rights of its own, which units cannot gain. ${otherMailer}`,
    );
  if (host?.byCommandLine.mail === true && program.openclaw === undefined)
    warn(
      'Agents would be told of their mail by `openclaw agent`, and no openclaw was found. Turn on hooks in openclaw.json, or run this again with its directory on the PATH.',
    );
}

function report(
  { output }: Surroundings,
  plan: Plan,
  units: readonly Done[],
  states: readonly UnitState[],
  did: readonly string[],
  problems: readonly string[],
  others: readonly string[],
): void {
  const user = plan.host?.account.name ?? plan.endpoint?.account.name;
  if (output.json) {
    const { mode, role } = plan;
    const ok = problems.length === 0;
    output.result({
      command: 'install',
      ok,
      mode,
      role,
      user,
      units,
      states,
      did,
      problems,
      otherUnits: others,
      schemaVersion: 1,
    });
    return;
  }
  if (did.length === 0) output.result('All is as it should be: nothing was changed.');
  showUnits(output, states);
  for (const problem of problems) output.error(problem);
  if (plan.mode === 'user' && user !== undefined && !existsSync(`/var/lib/systemd/linger/${user}`))
    output.info(
      `These units end when ${user} logs out; to have them run always: sudo loginctl enable-linger ${user}`,
    );
  const [log, edit] =
    plan.mode === 'user' ? ['journalctl --user', 'systemctl --user edit'] : ['journalctl', 'systemctl edit'];
  output.info(`What they do is in \`${log} -u 'nexus-*'\`; other intervals: \`${edit} nexus-upload.timer\`.`);
}

export function isRoot(): boolean {
  return process.geteuid?.() === 0;
}
