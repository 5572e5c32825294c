import { describe, expect, test } from 'vitest';
import { NexusError } from '../../../src/errors.ts';
import { verifyHead } from '../../../src/http/signatures/verify.ts';
import { verifications } from '../../../src/sources.ts';
import { now, refusal, type Sent, senders, signed, source } from './senders.ts';

function later(seconds: number): Date {
  return new Date(now.getTime() + seconds * 1000);
}

const all = Object.entries(senders).flatMap(([verify, ways]) =>
  Object.entries(ways).map(([way, sender]) => [`${verify}, ${way}`, sender] as const),
);

test('every way to verify is in the table', () => {
  expect([...Object.keys(senders), 'key', 'none'].toSorted()).toEqual([...verifications].toSorted());
});

test('none lets anybody in', () => {
  expect(refusal(source('none'), [], signed({ headers: {} }, Buffer.alloc(0)))).toBeUndefined();
  expect(verifyHead(source('none'), [], signed({ headers: {} }, Buffer.alloc(0)))).toBe(true);
});

test('key lets nobody in here', () => {
  const request = signed({ headers: { 'x-functions-key': 'k' } }, Buffer.alloc(0));
  expect(refusal(source('key'), ['k'], request)).toBe('This source needs a key.');
  expect(() => verifyHead(source('key'), ['k'], request)).toThrow('This source needs a key.');
});

describe.each(all)('%s', (_, sender) => {
  const { right, wrong } = sender.secrets;
  const sent = sender.sign(right, sender.body, now);
  /** The headers that prove something; all others may say what they will. */
  const proving = Object.keys(sent.headers).filter((name) => name !== 'content-type');

  function outcome(changed: Partial<Sent>, body = sender.body, secrets = [right]): string | undefined {
    return refusal(sender.source, secrets, signed({ ...sent, ...changed }, body));
  }

  function outcomeWith(name: string, value: string | string[] | undefined): string | undefined {
    return outcome({ headers: { ...sent.headers, [name]: value } });
  }

  test('the right secret is let in', () => {
    expect(outcome({})).toBeUndefined();
  });

  test('any of several secrets is let in', () => {
    expect(outcome({}, sender.body, [wrong, right])).toBeUndefined();
    expect(outcome({}, sender.body, [right, wrong])).toBeUndefined();
  });

  test('a wrong secret, an empty one and none are refused', () => {
    for (const secrets of [[wrong], [wrong, wrong], [''], ['whsec_'], []])
      expect(outcome({}, sender.body, secrets)).toBeTypeOf('string');
  });

  test('a secret that begins as the right one, or goes on after it, is refused', () => {
    expect(outcome({}, sender.body, [right.slice(0, -1)])).toBeTypeOf('string');
    expect(outcome({}, sender.body, [`${right}x`])).toBeTypeOf('string');
  });

  test('what was signed with an empty secret is refused', () => {
    const empty = sender.sign('', sender.body, now);
    expect(refusal(sender.source, [''], signed(empty, sender.body))).toBeTypeOf('string');
  });

  test('a header altered in any one place is refused', () => {
    for (const name of proving) {
      const value = String(sent.headers[name]);
      for (let at = 0; at < value.length; at += 1) {
        const altered = value.slice(0, at) + (value[at] === '0' ? '1' : '0') + value.slice(at + 1);
        expect(outcomeWith(name, altered), altered).toBeTypeOf('string');
      }
    }
  });

  test('a header cut short, made longer, empty, missing or repeated is refused', () => {
    for (const name of proving) {
      const value = String(sent.headers[name]);
      const others = [value.slice(0, -1), value.slice(1), `${value}0`, `0${value}`, ` `, '', undefined];
      for (const other of [...others, [value, value], `${value}, ${value}`])
        expect(outcomeWith(name, other), String(other)).toBeTypeOf('string');
    }
  });

  test('no header at all is refused', () => {
    expect(outcome({ headers: {}, query: {} })).toBeTypeOf('string');
  });

  test('text that nobody expects is refused and nothing else is thrown', () => {
    const odd = [
      '\u0000',
      'é'.repeat(64),
      '=',
      ',',
      '.',
      't=,v1=',
      'v1,',
      'sha256=',
      'v0=',
      'x'.repeat(10_000),
    ];
    for (const name of proving)
      for (const value of odd) expect(outcomeWith(name, value)).toBeTypeOf('string');
  });

  test('the refusal says nothing of a secret or of a signature', () => {
    const sentences = [outcome({}, sender.body, [wrong]), outcome({ headers: {}, query: {} })];
    const secrets = [right, wrong, ...proving.map((name) => String(sent.headers[name]))];
    for (const sentence of sentences)
      for (const secret of secrets) expect(sentence).not.toContain(secret.replace(/^(sha256|v0)=/, ''));
  });

  test('before the body is read, who presents nothing is refused already', () => {
    const head = signed({ ...sent, headers: {}, query: {} }, Buffer.alloc(0));
    expect(() => verifyHead(sender.source, [right], head)).toThrow(NexusError);
  });

  test('before the body is read, it is known whether it has a part in the proof', () => {
    expect(verifyHead(sender.source, [right], signed(sent, Buffer.alloc(0)))).toBe(!sender.overBody);
  });
});

describe.each(all.filter(([, { overBody }]) => !overBody))('%s', (_, sender) => {
  test('a wrong token is refused before the body is read', () => {
    const head = signed(sender.sign(sender.secrets.right, sender.body, now), Buffer.alloc(0));
    expect(() => verifyHead(sender.source, [sender.secrets.wrong], head)).toThrow(NexusError);
  });
});

describe.each(all.filter(([, { overBody }]) => overBody))('%s', (_, { source, secrets, body, ...sender }) => {
  const sent = sender.sign(secrets.right, body, now);

  test('a body altered in any one byte, cut short, made longer or taken away is refused', () => {
    for (const at of body.keys()) {
      const altered = Buffer.from(body);
      altered[at] = (altered[at] ?? 0) ^ 1;
      expect(refusal(source, [secrets.right], signed(sent, altered)), altered.toString('latin1')).toBeTypeOf(
        'string',
      );
    }
    const others = [body.subarray(1), body.subarray(0, -1), Buffer.concat([body, Buffer.from(' ')])];
    for (const other of [...others, Buffer.alloc(0)])
      expect(refusal(source, [secrets.right], signed(sent, other))).toBeTypeOf('string');
  });
});

const timed = all.flatMap(([name, sender]) =>
  sender.window === undefined ? [] : [[name, sender, sender.window] as const],
);

describe.each(timed)('%s', (_, sender, window) => {
  function outcomeAt(signedAt: Date, receivedAt: Date, source = sender.source): string | undefined {
    const body = sender.bodyAt?.(signedAt) ?? sender.body;
    const sent = sender.sign(sender.secrets.right, body, signedAt);
    return refusal(source, [sender.secrets.right], signed(sent, body, receivedAt));
  }

  test('a time at the edge of the window is let in, before and after', () => {
    expect(outcomeAt(now, later(window))).toBeUndefined();
    expect(outcomeAt(later(window), now)).toBeUndefined();
  });

  test('a time beyond the window is refused, before and after, in words that say so', () => {
    expect(outcomeAt(now, later(window + 1))).toContain('clock');
    expect(outcomeAt(later(window + 1), now)).toContain('clock');
    expect(outcomeAt(now, later(86_400 * 365))).toContain('clock');
  });

  test('the tolerance of the source takes the place of that of the scheme', () => {
    const narrow = { ...sender.source, toleranceSeconds: 5 };
    const wide = { ...sender.source, toleranceSeconds: 3600 };
    expect(outcomeAt(now, later(6), narrow)).toContain('clock');
    expect(outcomeAt(later(6), now, narrow)).toContain('clock');
    expect(outcomeAt(now, later(5), narrow)).toBeUndefined();
    expect(outcomeAt(now, later(3600), wide)).toBeUndefined();
    expect(outcomeAt(now, later(3601), wide)).toContain('clock');
  });
});
