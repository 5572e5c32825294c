import type { Seed } from './seed.ts';

const part = 'hostile';

export const seeds: Seed[] = [
  {
    name: "another agent's item for the asking",
    file: 'src/http/callers.ts',
    find: '  caller.require(scopes, position.agent);\n  return position;',
    replace: '  return position;',
    part,
  },
  {
    name: 'a cursor believed',
    file: 'src/http/wire.ts',
    find: "  if (!read.success) throw new NexusError('invalid', 'Invalid cursor: use the one that the last page gave.');\n  return read.data;",
    replace: '  return read.data as [string, string];',
    part,
  },
  {
    name: 'long JSON made into values',
    file: 'src/jsontext.ts',
    find: 'const longestParsed = 1024 * 1024;',
    replace: 'const longestParsed = 1024 ** 4;',
    part,
  },
  {
    name: 'new connections dropped where idle ones fill all places',
    file: 'src/http/connections.ts',
    find: '    if (running.size >= most) {',
    replace: '    if (running.size >= most) {\n      socket.destroy();\n      return;',
    part,
  },
  {
    name: 'guesses at keys not counted',
    file: 'src/http/guesses.ts',
    find: '      throw guesses(asked, error);',
    replace: '      void guesses;\n      throw error;',
    part,
  },
  {
    name: 'markup of a transcript on its page',
    file: 'src/http/dashboard/html.ts',
    find: "  '<': '&lt;',",
    replace: "  '<': '<',",
    part,
  },
  {
    name: 'line ends of a name in a message',
    file: 'src/output.ts',
    find: ".map(visible).join('\\n');",
    replace: ".map((line) => line).join('\\n');",
    part,
  },
  {
    name: "a sender's name as a file's name",
    file: 'src/jobs/inbox.ts',
    find: "    .replace(/[^A-Za-z0-9.-]/gu, '-')\n    .replace(/^[.-]+/, '')\n",
    replace: '',
    part,
  },
  {
    name: 'one number too large hides a database',
    file: 'src/openclaw/database.ts',
    find: '  statement.setReadBigInts(true);\n',
    replace: '',
    part,
  },
  {
    name: 'a linked directory followed out of the state',
    file: 'src/openclaw/files.ts',
    find: '    if (real !== around && !real.startsWith(around + sep)) {',
    replace: "    if (real === '') {",
    part,
  },
];
