/** One delivery received for an agent, as its host and its agent get it. */
export interface Item {
  /** `{agent}.{row}`, an agent's rows in the order of arrival (of each process; replicas' clocks may differ). */
  id: string;
  source: string;
  /** ISO 8601, UTC: when it first came, as its id says too; of a replay, when that was asked for. */
  receivedAt: string;
  /** As it was sent; empty when it was not said. */
  contentType: string;
  /** The sender's identifying ones, names in small letters; never its credentials. */
  headers: Record<string, string>;
  /**
   * The body as `payloadOf` reads it, a JSON text: for JSON what was sent, numbers and all; an object for forms, a
   * string for other text, one in base64 for anything else. On the wire and in the inbox it is the field `payload`.
   */
  payloadText: string;
  /** Where the payload is a string in base64. */
  encoding?: 'base64';
  /** The id of the item in history that this one repeats. */
  replayOf?: string;
  /** Its sender did not deliver it: the agent's host found it missing and fetched it. */
  reconciled?: true;
}

/** An item in a listing, without its payload. */
export interface ListedItem extends Omit<Item, 'payloadText' | 'encoding'> {
  agent: string;
  /** Of the body as received. */
  bytes: number;
  state: 'pending' | 'delivered' | 'dropped';
  /** The sender's own id of the delivery, where it has one. */
  delivery?: string;
  /** When it left pending, and which host it went to. */
  acknowledgedAt?: string;
  host?: string;
}

export type ShownItem = ListedItem & Pick<Item, 'payloadText' | 'encoding'>;

export interface ReceivedBody {
  body: Buffer;
  contentType: string;
}

/** Where a page or a listing goes on: after this one, which need not exist. */
export interface Position {
  agent: string;
  row: string;
}

export interface PendingRequest {
  /** Ids in Nexus; `'*'` for all that the store knows. */
  agents: '*' | readonly string[];
  /** 1 to 1000; default 100. */
  limit?: number;
  after?: Position;
  /**
   * Binds the mailboxes of the agents that are named (with `'*'`, of those with items on the page) to this host;
   * `conflict`, and nothing else done, when one is bound to another. Without it nothing is bound or asked.
   */
  host?: string;
  /** How long to wait for an item where there is none, ms; default 0. */
  waitMs?: number;
  /** Ends the wait with what there is. */
  signal?: AbortSignal;
}

/** Oldest first within an agent, agents in ascending order; about 10 MB, but always one item where there is one. */
export interface PendingPage {
  items: Item[];
  /** Absent on the last page. */
  next?: Position;
  /**
   * Items at whose place nothing can be delivered: their bodies are gone from the store, or are not what was stored.
   * They stay pending, in nobody's way, until they are restored or dropped. With a hundred of them, `items` may be
   * empty on a page that is not the last.
   */
  broken?: BrokenItem[];
}

export interface BrokenItem {
  id: string;
  /** A sentence. */
  reason: string;
}

export interface ItemFilter {
  agent?: string;
  source?: string;
  /** Received at or after this ISO time. */
  since?: string;
  state?: 'pending' | 'history';
  after?: Position;
  /** Told of those that are damaged, which are left out; without it, that is thrown as `corrupt`. */
  broken?: (item: BrokenItem) => void;
}

export interface MailboxStanding {
  agent: string;
  pending: number;
  /** Of the bodies that are pending. */
  bytes: number;
  /** When the oldest pending item was received. */
  oldestAt?: string;
  /** The host that it is bound to. */
  host?: string;
}

/**
 * What a host and an operator need of the mailboxes. Two implementations keep the same promises: in this process,
 * straight on a store (`webhooks.ts`), and over HTTP (`http/mailboxclient.ts`). Everything resolved is durable, and
 * everything may be repeated after a lost answer.
 *
 * Errors: as `Nexus`, and `conflict` from a mailbox that is bound to another host.
 */
export interface Mailbox {
  pending(request: PendingRequest): Promise<PendingPage>;

  /**
   * Takes items out of pending and keeps them in history for 30 days. Answers how many it has taken out,
   * each item once however many calls take it; one that a failed call has begun to take out may be counted by none.
   * Unknown ids are no error. `host` is kept with them, and an unbound mailbox bound to it; `conflict`, and nothing done, when one is
   * of a mailbox bound to another host. Without a host nothing is bound and nobody is asked.
   */
  acknowledge(ids: readonly string[], host?: string): Promise<number>;

  /** As `acknowledge`, of what is not wanted: its state in history is `dropped`. No host is asked. */
  drop(ids: readonly string[]): Promise<number>;

  /** Binds an agent's mailbox to a host, whoever had it, and answers who that was. */
  claim(agent: string, host: string): Promise<string | undefined>;

  /**
   * Pending and history: agents in ascending order, within one in the order of arrival. What is taken out of pending
   * while it is listed may be left out.
   */
  list(filter?: ItemFilter): AsyncIterable<ListedItem>;

  /** One item of pending or history with its payload; `undefined` when there is none. */
  show(id: string): Promise<ShownItem | undefined>;

  /**
   * The body as received, and its type, `application/octet-stream` where none was said. `not_found` when there is no
   * such item, `corrupt` when its body is not what was stored.
   */
  body(id: string): Promise<ReceivedBody>;

  /**
   * Makes an item of history pending again, as a new item whose id it answers: the host delivers it once more.
   * `request` is a random id of the caller's: repeated, it answers the same new id. `not_found`; `conflict` when it
   * is pending still.
   */
  replay(id: string, request: string): Promise<string>;

  /**
   * Keeps what the agent's host fetched because its sender did not deliver it, marked `reconciled`; else as `receive`.
   * It is a `duplicate` also of what came under its other id, whichever of the two comes first.
   */
  add(item: Fetched): Promise<Received>;

  /** How each mailbox stands; when no agents are named, all that have pending items or are bound to a host. */
  standing(agents?: readonly string[]): Promise<MailboxStanding[]>;

  close(): Promise<void>;
}

/** The most bytes of one webhook's body, unless its source says another: 25 × 1024². */
export const maxWebhookBytes = 25 * 1024 * 1024;

const itemId = /^([A-Za-z0-9][A-Za-z0-9_-]{0,63})\.([0-9a-z]{9,32})$/;

/** The agent and row that an item's id names; `undefined` when it is no such id. */
export function positionOf(id: string): Position | undefined {
  const [, agent, row] = itemId.exec(id) ?? [];
  return agent === undefined || row === undefined ? undefined : { agent, row };
}

/** One webhook as it came, from a sender who has proved itself. */
export interface Delivery {
  agent: string;
  source: string;
  /** Empty when it was not said. */
  contentType: string;
  /** Those to keep. */
  headers: Record<string, string>;
  /** As received. */
  body: Buffer;
  /** The sender's own id of this delivery, where it has one: it comes again when the sender tries again. */
  delivery?: string;
  /**
   * What `checkPayload` answered of this body with this Content-Type and the Content-Encoding in `headers`, how long
   * it is when that is undone. Without it the body is checked each time it is read.
   */
  decoded?: number;
  /** Another id that it may come under: see `Fetched`. */
  otherwise?: Fetched['otherwise'];
  reconciled?: true;
  /** The most that may be pending for the agent; 0 is without limit. */
  most?: { items: number; bytes: number };
}

/** What a host fetched in the place of a sender's delivery. */
export interface Fetched {
  agent: string;
  source: string;
  contentType: string;
  /** As the sender would have sent it. */
  body: Buffer;
  /** The id that the sender's own delivery has. */
  delivery: string;
  /**
   * The id that it has where the sender left something out of it. Only what was received at or after `since` (ISO 8601,
   * UTC) is meant by it: an earlier one was another delivery.
   */
  otherwise?: { delivery: string; since: string };
  /** As with `pending`: binds the mailbox to this host; `conflict`, and nothing kept, when it is bound to another. */
  host?: string;
}

export interface Received {
  status: 'accepted' | 'duplicate';
  id: string;
}

/** What was removed because it was acknowledged, or seen, more than 30 days ago. */
export interface Pruned {
  items: number;
  deliveries: number;
  blobs: number;
}

/** The mailboxes over a store: what `nexus serve` puts in, and all that `Mailbox` takes out. */
export interface Webhooks extends Mailbox {
  /**
   * Keeps a webhook; durable when it resolves. `duplicate` when the sender's delivery id was seen in the last 30 days
   * and that item is, or was, there: of many racers, in any number of processes, all answer the same id and one
   * item is kept. `unavailable` with `retryAfter` when the agent's mailbox is full, or when the store cannot take it;
   * `too_large` for what exceeds the mailbox alone. What other processes have received counts as of at most a minute
   * ago, 10 s where the mailbox is nearly full or fills quickly: several that receive at once may exceed it by what
   * they receive in that time.
   */
  receive(delivery: Delivery): Promise<Received>;

  /** Removes what is older than 30 days, but nothing that is pending. May run anywhere, any number at once. */
  prune(options?: PruneOptions): Promise<Pruned>;
}

export interface PruneOptions {
  /** Ends it between two steps, with the signal's reason; what was removed until then stays so. */
  signal?: AbortSignal;
  /**
   * Whether to look through all delivery ids for those whose item was never stored, which takes long and is seldom
   * needed; default true.
   */
  deliveries?: boolean;
}
