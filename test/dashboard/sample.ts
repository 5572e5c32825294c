import { openSessions } from '../../src/sessions.ts';
import type { Store } from '../../src/stores/store.ts';
import { openWebhooks } from '../../src/webhooks.ts';

const day = 86_400_000;

/** Numbers from 0 to 1, the same ones each time. */
function numbersFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 4_294_967_296;
  };
}

const models = [
  { provider: 'anthropic', model: 'claude-sonnet-4-5', input: 3, output: 15, cacheRead: 0.3 },
  { provider: 'anthropic', model: 'claude-haiku-4-5', input: 1, output: 5, cacheRead: 0.1 },
  { provider: 'openai', model: 'gpt-5-mini', input: 0.25, output: 2, cacheRead: 0.025 },
] as const;

const kinds = [
  { agent: 'main', key: 'agent:main:telegram:direct:4711', trigger: 'channel', model: 0, size: 9 },
  { agent: 'main', key: 'agent:main:cron:morning-briefing:run:', trigger: 'cron', model: 1, size: 3 },
  { agent: 'research', key: 'agent:research:main', trigger: 'operator', model: 0, size: 14 },
  { agent: 'research', key: 'agent:research:subagent:', trigger: 'subagent', model: 2, size: 8 },
  { agent: 'mediabox', key: 'agent:mediabox:hook:putio:', trigger: 'webhook', model: 2, size: 4 },
] as const;

const asked = [
  'What changed in the repository since yesterday, and does any of it need me?',
  'Collect the papers on append-only logs from this week and sum each up in two sentences.',
  'The download is done: sort it into the library and tell me if a subtitle is missing.',
  'Prepare the briefing: calendar, weather, and what is still open from last week.',
];

/** Five weeks of an archive that people could have: sessions of three agents from two hosts, and some mail. */
export async function fillSample(store: Store, now: Date): Promise<void> {
  const random = numbersFrom(7);
  const question = (): string => asked[Math.floor(random() * asked.length)] ?? '';
  let clock = now.getTime();
  const sessions = openSessions(store, () => new Date(clock));
  const today = Math.floor(now.getTime() / day) * day;
  let nth = 0;
  for (let ago = 62; ago >= 0; ago--)
    for (const kind of kinds) {
      const weekend = [0, 6].includes(new Date(today - ago * day).getUTCDay());
      if (random() < (weekend ? 0.6 : 0.12)) continue;
      const began = today - ago * day + Math.floor((6 + random() * 7) * 3_600_000);
      if (began > now.getTime() - 3_600_000) continue;
      const id = `${(++nth).toString(16).padStart(8, '0')}-5a3e-4c1b-9d20-${kind.agent.length.toString(16).padStart(12, '0')}`;
      const { provider, model, ...price } = models[kind.model];
      const lines: unknown[] = [
        { type: 'session', version: 3, id, timestamp: at(began), cwd: '/home/claw/workspace' },
        { type: 'model_change', id: 'm0', parentId: null, timestamp: at(began), provider, modelId: model },
      ];
      let time = began;
      const calls = Math.max(1, Math.round(kind.size * (0.4 + random() * 1.2)));
      for (let call = 0; call < calls; call++) {
        const parent = `r${call}`;
        if (call === 0)
          lines.push({
            type: 'message',
            id: parent,
            parentId: 'm0',
            timestamp: at(time),
            message: { role: 'user', content: question() },
          });
        else
          lines.push({
            type: 'message',
            id: parent,
            parentId: `a${call - 1}`,
            timestamp: at(time),
            message: {
              role: 'toolResult',
              toolCallId: `c${call}`,
              toolName: 'exec',
              content: [{ type: 'text', text: ` M src/index.ts\n?? notes/${call}.md` }],
              isError: false,
            },
          });
        time += Math.floor(4000 + random() * 40_000);
        const usage = {
          input: Math.floor(300 + random() * 2500),
          output: Math.floor(80 + random() * 1400),
          cacheRead: Math.floor((call + 1) * (4000 + random() * 9000)),
          cacheWrite: 0,
        };
        const total =
          (usage.input * price.input + usage.output * price.output + usage.cacheRead * price.cacheRead) / 1e6;
        const unpriced = kind.trigger === 'subagent' && ago < 3;
        const last = call === calls - 1;
        lines.push({
          type: 'message',
          id: `a${call}`,
          parentId: parent,
          timestamp: at(time),
          message: {
            role: 'assistant',
            content: last
              ? [
                  {
                    type: 'text',
                    text: 'Done. Two files changed, nothing needs you today; the notes are in notes/.',
                  },
                ]
              : [
                  {
                    type: 'toolCall',
                    id: `c${call + 1}`,
                    name: 'exec',
                    arguments: { command: 'git status --short' },
                  },
                ],
            provider: unpriced ? 'local' : provider,
            model: unpriced ? 'qwen3-coder' : model,
            usage: { ...usage, ...(unpriced ? {} : { cost: { total } }) },
            stopReason: last ? 'stop' : 'toolUse',
          },
        });
      }
      const key = kind.key.endsWith(':') ? `${kind.key}${id.slice(0, 8)}` : kind.key;
      const bytes = Buffer.from(`${lines.map((line) => JSON.stringify(line)).join('\n')}\n`);
      clock = time + 420_000;
      await sessions.append(kind.agent, id, 0, bytes, {
        complete: true,
        about: {
          host: kind.agent === 'mediabox' ? 'nas' : 'claw-box',
          sessionKey: key,
          trigger: kind.trigger,
          firstEventAt: at(began),
          lastEventAt: at(time),
        },
      });
    }

  for (let one = 0; one < 9; one++) {
    const webhooks = openWebhooks(store, { now: () => new Date(now.getTime() - (9 - one) * 2_700_000) });
    const github = one % 3 === 1;
    const { id } = await webhooks.receive({
      agent: github ? 'main' : 'mediabox',
      source: github ? 'github' : 'putio',
      contentType: github ? 'application/json' : 'application/x-www-form-urlencoded',
      headers: github ? { 'x-github-event': 'push' } : {},
      body: Buffer.from(
        github
          ? '{"ref":"refs/heads/main","commits":[{"message":"Sort the imports"}]}'
          : `name=Some.Show.S01E0${one}.mkv&file_id=${9000 + one}`,
      ),
      delivery: `delivery-${one}`,
    });
    if (one < 6) await webhooks.acknowledge([id], github ? 'claw-box' : 'nas');
  }
}

function at(ms: number): string {
  return new Date(ms).toISOString();
}
