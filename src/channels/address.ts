import { NexusError } from '../errors.ts';

/**
 * Where a secret URL leads, for fetch: Node's refuses a URL with a user in it, and says the URL in its error.
 */
export function addressOf(text: string): { address: URL; headers: Record<string, string> } {
  const address = URL.parse(text);
  if (address === null || !/^https?:$/.test(address.protocol))
    throw new NexusError('config', 'The secret that names a URL holds no http or https URL.');
  const { username, password } = address;
  if (username === '' && password === '') return { address, headers: {} };
  address.username = '';
  address.password = '';
  const basic = Buffer.from(`${decoded(username)}:${decoded(password)}`).toString('base64');
  return { address, headers: { authorization: `Basic ${basic}` } };
}

/** A percent sign that was meant as one stays. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    if (!(error instanceof URIError)) throw error;
    return text;
  }
}

/** Of what fetch threw: its code, without the URL. */
export function codeOf(error: unknown): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  return cause instanceof Error && 'code' in cause ? String(cause.code) : 'network error';
}
