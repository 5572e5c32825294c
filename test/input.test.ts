import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { readHiddenLine, type Source } from '../src/input.ts';

interface Terminal {
  read: Promise<string>;
  stdin: PassThrough;
  prompts: string[];
  raw: boolean[];
  interrupted: () => number;
  stop: AbortController;
}

function terminal(isTTY: boolean): Terminal {
  const prompts: string[] = [];
  const raw: boolean[] = [];
  let interrupts = 0;
  const stop = new AbortController();
  const stdin: PassThrough & Source = Object.assign(new PassThrough(), {
    isTTY,
    setRawMode: (on: boolean) => raw.push(on),
  });
  const read = readHiddenLine('The secret', {
    stdin,
    prompt: (text) => prompts.push(text),
    signal: stop.signal,
    interrupt: () => {
      interrupts += 1;
      stop.abort();
    },
  });
  return { read, stdin, prompts, raw, interrupted: () => interrupts, stop };
}

test('at a terminal nothing is echoed, keys are taken back, and Enter ends the line', async () => {
  const { read, stdin, prompts, raw } = terminal(true);
  stdin.write('sx\u007fec€\u007fret\rmore');
  expect(await read).toBe('secret');
  expect(raw).toEqual([true, false]);
  expect(prompts).toEqual(['The secret (it is not shown): ', '\n']);
});

test('from a pipe it is the first line, whole where its characters come in pieces', async () => {
  const { read, stdin, prompts, raw } = terminal(false);
  const bytes = Buffer.from('  gehe€im\r\nmore\n');
  for (const byte of bytes) stdin.write(Buffer.of(byte));
  expect(await read).toBe('gehe€im');
  expect([prompts, raw]).toEqual([[], []]);
});

test.each(['', '\n', '   \n'])('%j is no secret', async (text) => {
  const { read, stdin } = terminal(false);
  stdin.end(text);
  await expect(read).rejects.toMatchObject({ code: 'usage' });
});

test('Ctrl-C at the prompt and a signal end the wait, and give the terminal back', async () => {
  const typed = terminal(true);
  typed.stdin.write('sec\u0003');
  await expect(typed.read).rejects.toMatchObject({ name: 'AbortError' });
  expect([typed.interrupted(), typed.raw]).toEqual([1, [true, false]]);
  const stopped = terminal(true);
  stopped.stop.abort();
  await expect(stopped.read).rejects.toMatchObject({ name: 'AbortError' });
  expect(stopped.raw).toEqual([true, false]);
});
