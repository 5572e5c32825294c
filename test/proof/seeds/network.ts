import type { Seed } from './seed.ts';

export const seeds: Seed[] = [
  {
    name: 'a delivery id is enough to be a duplicate',
    file: 'src/webhookkeep.ts',
    find: 'if (!first && (await appears(agent, row))) return { row, kept: false };',
    replace: 'if (!first) return { row, kept: false };',
    part: 'network',
  },
  {
    name: 'items leave pending before they are in history',
    file: 'src/webhookhistory.ts',
    find: `    const ours = await Promise.all(
      pending.map(async`,
    replace: `    await store.removeRows('WebhookItems', agent, pending.map(({ id }) => id));
    const ours = await Promise.all(
      pending.map(async`,
    part: 'network',
  },
  {
    name: 'a bug is answered with its own message',
    file: 'src/http/server.ts',
    find: '    return answerError(reply, known);\n  });\n  app.setNotFoundHandler',
    replace:
      '    if (known === undefined) return reply.code(500).send({ error: String(error) });\n    return answerError(reply, known);\n  });\n  app.setNotFoundHandler',
    part: 'network',
  },
  {
    name: 'a transcript that could not be sent is not named',
    file: 'src/jobs/agentrun.ts',
    find: '      run.fail(failed, codeIn(error));\n',
    replace: '',
    part: 'network',
  },
  {
    name: 'a request to Azure that was repeated is taken for the first',
    file: 'src/stores/azure-calls.ts',
    find: 'repeated ||= !changedNothing(failure);',
    replace: 'repeated &&= !changedNothing(failure);',
    part: 'network',
  },
  {
    name: 'a silent line over a digest is waited for ten minutes',
    file: 'src/http/client.ts',
    find: 'timeoutMs: connection.timeoutMs + asked.of / digestBytesPerMs,',
    replace: 'timeoutMs: 10 * 60_000 + asked.of / digestBytesPerMs,',
    part: 'network',
  },
];
