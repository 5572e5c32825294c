import { userInfo } from 'node:os';

/** An empty name is that of a user's own systemd. */
export function isMe(user: string): boolean {
  return user === '' || user === myName() || user === String(process.geteuid?.());
}

export function myName(): string | undefined {
  try {
    return userInfo().username;
  } catch (error) {
    // A uid without a name.
    if (error instanceof Error && 'code' in error) return undefined;
    throw error;
  }
}
