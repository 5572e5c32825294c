import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { commandWord } from '../../src/systemd/units.ts';
import { newOpenClawMachine, type OpenClawMachine } from './openclaw.ts';

let machine: OpenClawMachine;

/** Units of this user, as `nexus install` writes what of them says which Nexus they are of. */
async function installed(environment: readonly string[], configFile = machine.configFile): Promise<void> {
  const directory = path.join(machine.home, '.config', 'systemd', 'user');
  await mkdir(directory, { recursive: true });
  const lines = [
    '[Service]',
    `ExecStart=/opt/node /opt/nexus.js --config ${commandWord(configFile)} upload`,
    ...environment.map((one) => `Environment=${one}`),
    'Environment=NODE_COMPILE_CACHE=%C/nexus',
  ];
  await writeFile(path.join(directory, 'nexus-upload.service'), `${lines.join('\n')}\n`);
}

beforeEach(async () => {
  machine = await newOpenClawMachine();
});

test('a command by hand that speaks of another OpenClaw than the units says how they do it', async () => {
  await installed(['OPENCLAW_STATE_DIR=/srv/claw']);
  const { stderr } = await machine.nexus(['upload']);
  expect(stderr.replaceAll(/\s+/g, ' ')).toContain(
    'As they do: `OPENCLAW_STATE_DIR=/srv/claw nexus upload`.',
  );
});

test('so does one with another configuration', async () => {
  await installed([], `${machine.home}/own files/c.json`);
  const { stderr } = await machine.nexus(['status']);
  expect(stderr.replaceAll(/\s+/g, ' ')).toContain(
    `As they do: \`nexus --config '${machine.home}/own files/c.json' status\`.`,
  );
});

test('one that is as the units are, is a unit, or is of no host, says nothing', async () => {
  await installed([`OPENCLAW_STATE_DIR=${machine.openclaw.stateDir}`]);
  expect((await machine.nexus(['upload'])).stderr).not.toContain('As they do');
  await installed(['OPENCLAW_STATE_DIR=/srv/claw']);
  expect((await machine.nexus(['upload'], { env: { INVOCATION_ID: 'a' } })).stderr).not.toContain(
    'As they do',
  );
  expect((await machine.nexus(['config', 'path'])).stderr).not.toContain('As they do');
});
