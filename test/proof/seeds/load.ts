import type { Seed } from './seed.ts';

export const seeds: Seed[] = [
  {
    name: 'a commit that leaves out what is more than twenty at once',
    file: 'src/stores/local-database.ts',
    find: 'for (const one of batch) {\n        try {\n          one.mutation();',
    replace: 'for (const one of batch.slice(0, 20)) {\n        try {\n          one.mutation();',
    part: 'load',
  },
  {
    name: 'a file left open by each look at what is pending',
    file: 'src/http/pending.ts',
    find: 'const agents = agentsOf(callerOf(request), scopes, agentId);',
    replace:
      "const agents = agentsOf(callerOf(request), scopes, agentId); process.getBuiltinModule('node:fs').openSync('/dev/null', 'r');",
    part: 'load',
  },
  {
    name: 'each webhook kept in memory after its answer',
    file: 'src/webhooks.ts',
    find: "checkAgentId(agent);\n    if (source === ''",
    replace:
      "checkAgentId(agent);\n    Reflect.set(globalThis, `held ${performance.now()}`, Buffer.concat([body, body, body]));\n    if (source === ''",
    part: 'load',
  },
  {
    name: 'a delivery that comes again taken for another',
    file: 'src/webhooks.ts',
    find: 'delivery.delivery === undefined ? undefined : deliveryKey(source, delivery.delivery)',
    replace:
      'delivery.delivery === undefined ? undefined : deliveryKey(source, delivery.delivery + Math.random())',
    part: 'load',
  },
  {
    name: 'the tail of a transcript appended without its last byte',
    file: 'src/jobs/ship.ts',
    find: 'waiting += taken;\n        from += taken;',
    replace: 'waiting += offset > 0 && taken > 1 ? taken - 1 : taken;\n        from += taken;',
    part: 'load',
  },
];
