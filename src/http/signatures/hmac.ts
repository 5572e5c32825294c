import type { Source } from '../../sources.ts';
import { type Head, malformed, needHeader, refused, type Scheme } from './scheme.ts';
import { bodySignature } from './signedbody.ts';
import { needMilliseconds, needSeconds, secondsOf } from './window.ts';

/** As the configuration says it. With a time, 300 seconds unless it says another. */
export const hmac: Scheme = (head, source) => {
  const about = source.hmac;
  if (about === undefined) throw refused('This source does not say how its HMAC is made.');
  const { header, algorithm, encoding, prefix, signed } = about;
  const value = needHeader(head, header);
  const time = timeOf(head, source);
  const pieces = signed
    .split(/(\{body\}|\{timestamp\})/)
    .map((piece) => (piece === '{timestamp}' ? (time ?? piece) : piece));
  return bodySignature({
    header,
    value,
    algorithm,
    encoding,
    prefix,
    around: (body) => pieces.map((piece) => (piece === '{body}' ? body : piece)),
  });
};

/** The time as it is signed: the header's text. */
function timeOf(head: Head, { hmac, toleranceSeconds = 300 }: Source): string | undefined {
  const header = hmac?.timestampHeader;
  if (header === undefined) return undefined;
  const text = needHeader(head, header);
  const time = secondsOf(text);
  if (time === undefined) throw malformed(header);
  // Seconds have ten digits until the year 2286, milliseconds have had thirteen since 2001.
  if (text.length > 11) needMilliseconds(time, head.now, toleranceSeconds);
  else needSeconds(time, head.now, toleranceSeconds);
  return text;
}
