import { NexusError } from '../errors.ts';

/** A body up to here is read however many others are under way. */
export const smallBytes = 64 * 1024;

/** Where bodies of webhooks are in memory, as many bytes of them as may be there at once. */
export interface BodyRoom {
  /**
   * A place for one body. Of a sender who has not proved itself yet: there is less room for all of those, less for
   * those from one peer, and least for those under one name, so that they leave some to the others.
   */
  enter(unproved?: { name: string; peer: string | undefined }): BodyPlace;
}

export interface BodyPlace {
  /** More of it has come. Throws `unavailable` where a long body has no room. */
  took(bytes: number): void;
  /** Its sender has proved itself. */
  proved(): void;
  /** It is no longer in memory. */
  leave(): void;
}

export function openBodyRoom(most: number): BodyRoom {
  const held = new Map<string, number>();

  function hold(share: string, bytes: number): number {
    const now = (held.get(share) ?? 0) + bytes;
    if (now === 0) held.delete(share);
    else held.set(share, now);
    return now;
  }

  return {
    enter(unproved) {
      let mine = 0;
      let shares: [share: string, limit: number][] = [['all', most]];
      if (unproved !== undefined) {
        shares.push(['unproved', (most * 3) / 4], [`name ${unproved.name}`, most / 4]);
        if (unproved.peer !== undefined) shares.push([`peer ${unproved.peer}`, most / 2]);
      }
      function leave(left: typeof shares): void {
        for (const [share] of left) hold(share, -mine);
      }
      return {
        took(bytes) {
          mine += bytes;
          const full = shares.filter(([share, limit]) => hold(share, bytes) > limit);
          if (mine > smallBytes && full.length > 0)
            throw new NexusError(
              'unavailable',
              'Too many long bodies are on their way: send it again later.',
            );
        },
        proved() {
          leave(shares.slice(1));
          shares = shares.slice(0, 1);
        },
        leave() {
          leave(shares);
          shares = [];
        },
      };
    },
  };
}
