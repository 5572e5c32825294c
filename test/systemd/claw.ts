import type { Ran, SystemdMachine } from './machine.ts';

/** A machine on which the user `claw` runs an OpenClaw. */
export interface Claw {
  stateDir: string;
  configFile: string;
  dataDir: string;
  /** `sudo nexus install …`, as claw would call it. */
  install: (...args: string[]) => Promise<Ran>;
  uninstall: (...args: string[]) => Promise<Ran>;
  /** The built binary, as claw. */
  nexus: (...args: string[]) => Promise<Ran>;
  /** Writes claw's configuration. */
  configure: (settings: object) => Promise<void>;
  /** A drop-in for a unit. */
  dropIn: (unit: string, text: string) => Promise<void>;
  /** All of history is archived. */
  backfilled: () => Promise<void>;
  /** Starts a unit, waits for its end, and says how that was. */
  start: (unit: string) => Promise<{ status: number; result: string; active: string }>;
}

/** Makes the user, with a fixture as its OpenClaw that is two hours old, and a workspace for each agent. */
export async function makeClaw(machine: SystemdMachine, fixture: string): Promise<Claw> {
  const home = '/home/claw';
  const [stateDir, configFile] = [`${home}/.openclaw`, `${home}/.config/nexus/config.json`];
  await machine.sh(`
    useradd -m -s /bin/bash claw
    cp -r /opt/nexus/test/fixtures/openclaw/${fixture} ${stateDir}
    find ${stateDir} -type f -exec touch -d '2 hours ago' {} +
    for workspace in $(grep -oE '/srv/openclaw[^"]*' ${stateDir}/openclaw.json); do mkdir -p "$workspace"; done
    chown -R claw: ${stateDir} /srv`);
  const asClaw = { user: 'claw' };
  const sudo = { env: { SUDO_USER: 'claw' } };
  return {
    stateDir,
    configFile,
    dataDir: `${home}/.local/share/nexus`,
    install: (...args) => machine.nexus(['install', ...args], sudo),
    uninstall: (...args) => machine.nexus(['uninstall', ...args], sudo),
    nexus: (...args) => machine.nexus(args, asClaw),
    async configure(settings) {
      const script = `umask 077; mkdir -p ${home}/.config/nexus; printf %s "$1" > ${configFile}`;
      await machine.must(['/bin/sh', '-euc', script, 'sh', JSON.stringify(settings)], asClaw);
    },
    async dropIn(unit, text) {
      const script = `mkdir -p "/etc/systemd/system/$1.d"; printf %s "$2" > "/etc/systemd/system/$1.d/test.conf"`;
      await machine.must(['/bin/sh', '-euc', script, 'sh', unit, text]);
      await machine.must(['systemctl', 'daemon-reload']);
    },
    async backfilled() {
      await machine.until(async () => {
        const { ActiveState, SubState } = await machine.unit('nexus-backfill.service');
        // A timer of these very seconds had its agents: it would try again in five minutes.
        if (SubState === 'auto-restart')
          await machine.must(['systemctl', 'restart', 'nexus-backfill.service']);
        return ActiveState === 'inactive';
      });
    },
    async start(unit) {
      await machine.run(['systemctl', 'start', unit]);
      const { ExecMainStatus, Result = '', ActiveState = '' } = await machine.unit(unit);
      return { status: Number(ExecMainStatus), result: Result, active: ActiveState };
    },
  };
}

/** What makes a timer fire every second. */
export const often = '[Timer]\nOnCalendar=\nOnCalendar=*:*:*\nRandomizedDelaySec=0\n';

/** Settings of an impatient host: what is complete is shipped and moved at once, and one try is enough. */
export const hurried = {
  settleMinutes: 0,
  archiveAfterHours: 0,
  retry: { tries: 1 },
  host: 'box',
};
