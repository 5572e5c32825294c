import { failedWith, NexusError } from '../errors.ts';
import { isLoopback } from './loopback.ts';
import { openRateLimit } from './ratelimit.ts';

/** Whom a request says it is from, and from where it comes. */
export interface Claim {
  /** The agent and the source that are named, whether or not there are such. */
  name: string;
  /** As `peerOf` has it. */
  peer: string | undefined;
}

/**
 * Those who fail to prove who they are, counted in this process. However many fail, who can prove itself is let in:
 * only the failures are answered in another way, and long bodies not read for an address from which nobody else comes.
 */
export interface Strangers {
  /**
   * What a proof's failure is answered with: itself, or `limited` once there were too many from this peer, or under
   * this name where one is said.
   */
  failed(claim: Pick<Claim, 'peer'> & Partial<Claim>, error: unknown): unknown;
  /** Somebody at this peer has proved itself: for an hour its long bodies are read, whoever else fails there. */
  proved(peer: string | undefined): void;
  /** Throws `limited` for a peer where many failed and nobody has proved itself. */
  refuseLong(peer: string | undefined): void;
}

const failuresAMinute = 60;
/** Far more than there are honest ones; strangers make them up. */
const mostNames = 5000;
const provedMs = 3_600_000;

export function openStrangers(now: () => Date): Strangers {
  const failures = openRateLimit(now, { atOnce: 1, names: mostNames });
  /** Peers, and when somebody there has proved itself last, ms since 1970; those who did so last are last. */
  const provers = new Map<string, number>();

  function isSpent(name: string): boolean {
    return failures.spent(name, failuresAMinute);
  }

  function count(name: string): NexusError | undefined {
    try {
      failures.take(name, failuresAMinute);
      return undefined;
    } catch (error) {
      if (failedWith(error, 'limited')) return error;
      throw error;
    }
  }

  return {
    failed({ name, peer }, error) {
      if (!failedWith(error, 'unauthorized')) return error;
      const over = [
        name === undefined ? undefined : count(`name ${name.slice(0, 200)}`),
        peer === undefined ? undefined : count(`peer ${peer}`),
      ];
      const refusals = over.filter((one) => one !== undefined);
      return refusals.length === 0
        ? error
        : tooMany(Math.max(...refusals.map(({ retryAfter }) => retryAfter ?? 1)), error);
    },
    proved(peer) {
      if (peer === undefined) return;
      provers.delete(peer);
      provers.set(peer, now().getTime());
      if (provers.size <= mostNames) return;
      const [oldest] = provers.keys();
      if (oldest !== undefined) provers.delete(oldest);
    },
    refuseLong(peer) {
      if (peer === undefined || !isSpent(`peer ${peer}`)) return;
      if (now().getTime() - (provers.get(peer) ?? Number.NEGATIVE_INFINITY) < provedMs) return;
      throw tooMany(60 / failuresAMinute);
    },
  };
}

function tooMany(retryAfter: number, cause?: unknown): NexusError {
  return new NexusError(
    'limited',
    'Too many requests here have not proved who sent them: try again later.',
    cause === undefined ? { retryAfter } : { retryAfter, cause },
  );
}

/**
 * Who an address stands for: of IPv6 the network, whose addresses one holder has all of. `undefined` for this machine,
 * on which a proxy or a tunnel stands for everybody.
 */
export function peerOf(address: string | undefined): string | undefined {
  if (address === undefined || isLoopback(address)) return undefined;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined || !address.includes(':')) return mapped ?? address;
  const [left = [], right = []] = address.split('::').map((part) => part.split(':').filter(Boolean));
  const zeros = Array<string>(Math.max(0, 8 - left.length - right.length)).fill('0');
  return [...left, ...zeros, ...right].slice(0, 4).join(':');
}
