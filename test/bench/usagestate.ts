import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';

const models = [
  ['anthropic', 'claude-opus-4-8'],
  ['openai', 'gpt-5.4'],
  ['google', 'gemini-3-pro'],
] as const;

const text = Array.from({ length: 4000 }, () => randomBytes(6).toString('base64')).join(' ');

function some(length: number): string {
  const from = Math.floor(Math.random() * (text.length - length));
  return text.slice(from, from + length);
}

const upTo = (most: number): number => Math.floor(Math.random() * most);

/** Makes a file-era history of about so many bytes: turns with three tool calls each, 260 KB a transcript. */
export async function makeHistory(stateDir: string, bytes: number): Promise<void> {
  const sessions = path.join(stateDir, 'agents', 'main', 'sessions');
  await mkdir(sessions, { recursive: true });
  await writeFile(path.join(sessions, 'sessions.json'), '{}');
  for (let made = 0, nth = 0; made < bytes; nth++) {
    const id = randomUUID();
    let at = Date.UTC(2026, 7, 1) + upTo(110 * 86_400_000);
    const lines: string[] = [];
    const written = { bytes: 0 };
    const push = (record: object): void => {
      const line = `${JSON.stringify(record)}\n`;
      lines.push(line);
      written.bytes += line.length;
    };
    let parentId: string | null = null;
    const say = (message: object): void => {
      at += 1000 + upTo(20_000);
      const entry = randomBytes(4).toString('hex');
      push({ type: 'message', id: entry, parentId, timestamp: new Date(at).toISOString(), message });
      parentId = entry;
    };
    const [provider, model] = models[nth % models.length] ?? models[0];
    const answer = (content: object[], stopReason: string): void =>
      say({
        role: 'assistant',
        content,
        api: 'messages',
        provider,
        model,
        usage: used(),
        stopReason,
        timestamp: at,
      });
    push({ type: 'session', version: 3, id, timestamp: new Date(at).toISOString(), cwd: '/srv/work' });
    const enough = 260_000 * (0.3 + Math.random() * 1.4);
    while (written.bytes < enough) {
      say({ role: 'user', content: [{ type: 'text', text: some(400) }], timestamp: at });
      for (let tool = 0; tool < 3; tool++) {
        const call = {
          type: 'toolCall',
          id: `call_${tool}`,
          name: 'exec',
          arguments: { command: some(200) },
        };
        answer([{ type: 'thinking', thinking: some(700) }, call], 'toolUse');
        const output = some(Math.random() < 0.1 ? 20_000 : 3000);
        say({
          role: 'toolResult',
          toolName: 'exec',
          content: [{ type: 'text', text: output }],
          isError: false,
        });
      }
      answer([{ type: 'text', text: some(900) }], 'stop');
    }
    const file = path.join(sessions, `${id}.jsonl`);
    await writeFile(file, lines.join(''));
    await utimes(file, at / 1000, at / 1000);
    made += written.bytes;
  }
}

function used(): object {
  const tokens = {
    input: 1000 + upTo(5000),
    output: upTo(900),
    cacheRead: upTo(90_000),
    cacheWrite: upTo(3000),
  };
  const { input, output, cacheRead, cacheWrite } = tokens;
  const cost = { total: input * 5e-6 + output * 25e-6 + cacheRead * 5e-7 + cacheWrite * 6.25e-6 };
  return { ...tokens, totalTokens: input + output + cacheRead + cacheWrite, cost };
}
