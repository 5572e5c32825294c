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
 * What started a session, from its key: `cron`, `webhook`, `subagent`, `channel`, else `operator`.
 * `agent:x:cron:<job>[:run:<id>]`, `hook:<uuid>`, `agent:x:subagent:<uuid>`, `agent:x:telegram:direct:1`, ….
 */
export function triggerOfKey(key: string): string {
  const parts = key.replace(/^agent:[^:]+:/, '').split(':');
  const [first = '', second = ''] = parts;
  if (first === 'cron') return 'cron';
  if (first === 'hook') return 'webhook';
  if (parts.includes('subagent')) return 'subagent';
  if (channels.has(first) || /^(?:direct|group|channel|dm)$/.test(second)) return 'channel';
  return 'operator';
}

/** True for a session that OpenClaw keeps for `cron.sessionRetention` only. */
export function isCronKey(key: string): boolean {
  return /^(?:agent:[^:]+:)?cron:/.test(key);
}
