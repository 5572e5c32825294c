import { addAbortSignal, type Readable } from 'node:stream';
import { NexusError } from './errors.ts';

/** What is read from: the process's own stdin, or a test's. */
export interface Source extends Readable {
  isTTY?: boolean;
  setRawMode?: (raw: boolean) => unknown;
}

export interface InputOptions {
  stdin: Source;
  /** Where the prompt goes: never stdout. */
  prompt: (text: string) => void;
  /** Ends the wait with its reason's error. */
  signal: AbortSignal;
  /** Told of Ctrl-C, which is no signal while nothing is echoed. */
  interrupt: () => void;
}

const longestLine = 64 * 1024;

/** One line of stdin, without spaces around it; what is typed at a terminal is not shown. `usage` when it is empty. */
export async function readHiddenLine(prompt: string, options: InputOptions): Promise<string> {
  const { stdin, signal } = options;
  const typed = stdin.isTTY === true && stdin.setRawMode !== undefined;
  if (typed) {
    options.prompt(`${prompt} (it is not shown): `);
    stdin.setRawMode?.(true);
  }
  addAbortSignal(signal, stdin);
  stdin.setEncoding('utf8');
  try {
    const line = (await lineOf(options, typed)).trim();
    if (line !== '') return line;
    throw new NexusError('usage', `${prompt}: there is no line on stdin.`, {
      hint: 'Write it there, or name another place.',
    });
  } finally {
    if (typed) {
      stdin.setRawMode?.(false);
      options.prompt('\n');
    }
  }
}

async function lineOf({ stdin, interrupt }: InputOptions, typed: boolean): Promise<string> {
  let line = '';
  for await (const part of stdin) {
    for (const character of String(part)) {
      if (character === '\n' || (typed && (character === '\r' || character === '\u0004'))) return line;
      if (typed && character === '\u0003') interrupt();
      else if (typed && (character === '\u007f' || character === '\b')) line = line.replace(/.$/su, '');
      else line += character;
    }
    if (line.length > longestLine) throw new NexusError('usage', 'The line on stdin is too long.');
  }
  return line;
}
