/** The agent that a session key names: `agent:<id>:…`, in lower case as OpenClaw keeps it. */
export function agentOfKey(key: string): string | undefined {
  return /^agent:([^:]+):/.exec(key)?.[1]?.toLowerCase();
}

const channels = new Set(
  (
    'telegram whatsapp slack discord signal imessage bluebubbles matrix mattermost msteams googlechat irc line ' +
    'feishu nostr nextcloud-talk synology-chat tlon twitch zalo zalouser webchat sms voice-call'
  ).split(' '),
);

/**
 * What started a session, from its key: `cron`, `webhook`, `heartbeat`, `subagent`, `channel`, else `operator`.
 * `agent:x:main:heartbeat`, `agent:x:cron:<job>[:run:<id>]`, `hook:<uuid>`, `agent:x:subagent:<uuid>`, `agent:x:telegram:direct:1`, ….
 */
export function triggerOfKey(key: string): string {
  const parts = key.replace(/^agent:[^:]+:/, '').split(':');
  const [first = '', second = ''] = parts;
  if (first === 'cron') return 'cron';
  if (first === 'hook') return 'webhook';
  // A heartbeat has a session of its own where it is set so; else it is a message among others in the main one.
  if (parts.length > 1 && parts.at(-1) === 'heartbeat') return 'heartbeat';
  if (parts.includes('subagent')) return 'subagent';
  if (channels.has(first) || /^(?:direct|group|channel|dm)$/.test(second)) return 'channel';
  return 'operator';
}

/** True for a session that OpenClaw keeps for `cron.sessionRetention` only. */
export function isCronKey(key: string): boolean {
  return /^(?:agent:[^:]+:)?cron:/.test(key);
}
