import { randomUUID } from 'node:crypto';
import { mkdir, open, writeFile } from 'node:fs/promises';
import path from 'node:path';

/** Makes a file-era state directory of `count` complete transcripts of about `bytes` each, for one agent. */
export async function makeState(stateDir: string, count: number, bytes: number): Promise<string> {
  const sessions = path.join(stateDir, 'agents', 'main', 'sessions');
  await mkdir(sessions, { recursive: true });
  await writeFile(path.join(sessions, 'sessions.json'), '{}');
  const text = textOf(2_000);
  for (let n = 0; n < count; n++) {
    const id = randomUUID();
    const file = await open(path.join(sessions, `${id}.jsonl`), 'w');
    try {
      let written = 0;
      let lines = `${JSON.stringify({ type: 'session', version: 3, id, timestamp: timeOf(0) })}\n`;
      for (let line = 0; written + lines.length < bytes; line++) {
        lines += `${JSON.stringify({ type: 'message', id: line.toString(16).padStart(8, '0'), timestamp: timeOf(line), message: { role: 'user', content: text } })}\n`;
        if (lines.length < 1 << 20) continue;
        written += lines.length;
        await file.write(lines);
        lines = '';
      }
      await file.write(lines);
      const at = new Date(Date.now() - 3_600_000);
      await file.utimes(at, at);
    } finally {
      await file.close();
    }
  }
  return sessions;
}

function timeOf(line: number): string {
  return new Date(Date.UTC(2026, 10, 1) + line * 1000).toISOString();
}

function textOf(length: number): string {
  let text = '';
  while (text.length < length) text += `${randomUUID()} `;
  return text.slice(0, length);
}
