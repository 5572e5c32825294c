/** The webhook items that a message of Nexus tells an agent of. */
export interface Mail {
  batch: string;
  /** Ids of the items that the message names; one of very many names only the first. */
  items: string[];
  /** Who sent them: one name, or `several`. */
  source: string | undefined;
}

const head =
  /(?:^|\n)(?:\[[^\]\n]*\] )?Nexus has put (?:one webhook|\d+ webhooks) for you into your inbox, from ([^\n]*)\.\n/;
const last = /^nexus-batch: ([A-Za-z0-9-]{1,64})$/m;

/**
 * Reads the message by which Nexus tells an agent of its mail (`composeMessage`), also within what OpenClaw puts around
 * it; `undefined` for any other text. Items are taken only from the lines that Nexus writes, never from between the
 * lines that fence what came from outside, and only items of this agent: whatever a text pretends, it cannot charge
 * itself to another agent's mail.
 */
export function mailIn(text: string, agent: string): Mail | undefined {
  const begin = head.exec(text);
  if (begin === null) return undefined;
  const rest = text.slice(begin.index + begin[0].length);
  const fence = /between lines with the word ([0-9a-z]+), which is in none of it/.exec(rest)?.[1];
  const items = new Set<string>();
  let inside = false;
  for (const line of rest.split('\n')) {
    if (fence !== undefined && line === `----- end untrusted ${fence} -----`) {
      inside = false;
      continue;
    }
    if (inside) continue;
    const batch = last.exec(line)?.[1];
    if (batch !== undefined) return { batch, items: [...items], source: sourceIn(begin[1] ?? '') };
    const fenced = fence === undefined ? undefined : `----- begin untrusted ${fence}: item `;
    if (fenced !== undefined && line.startsWith(fenced)) {
      inside = true;
      note(line.slice(fenced.length).split(' ')[0]);
    } else note(listed(line));
  }
  return undefined;

  function note(id: string | undefined): void {
    const row = id?.startsWith(`${agent}.`) === true ? id.slice(agent.length + 1) : '';
    if (id !== undefined && /^[0-9a-z]{9,32}$/.test(row)) items.add(id);
  }
}

/** The id in `- /inbox/github_main.0abc.json (github, …)` or `- main.0abc (github, …, 5 bytes)`. */
function listed(line: string): string | undefined {
  const [, named] = /^- (.+) \([^()]*\)$/.exec(line) ?? [];
  if (named === undefined || !named.endsWith('.json')) return named;
  const name = named.slice(named.lastIndexOf('/') + 1, -'.json'.length);
  // A source holds no "_" in the name of a file; an agent's id may.
  return name.slice(name.indexOf('_') + 1);
}

/** `github (3), putio (1)` */
function sourceIn(said: string): string | undefined {
  const sources = said.split(', ').map((one) => /^([A-Za-z0-9][A-Za-z0-9._-]{0,31}) \(\d+\)$/.exec(one)?.[1]);
  return sources.length === 1 ? sources[0] : 'several';
}
