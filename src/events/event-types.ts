/** Names of event types as users choose them: a type, or all of a family (`twin.*`), or all (`*`). Pure. */
import type { OutEventType } from '../store/event-log.js'

export const eventTypes: readonly OutEventType[] = [
  'twin.created', 'twin.changed', 'twin.deleted', 'device.connected', 'device.disconnected', 'device.event', 'command.changed',
  'alarm.raised', 'alarm.acknowledged', 'alarm.cleared', 'deadletter.added'
]

export const typePatterns: readonly string[] = ['*', ...new Set(eventTypes.map(type => `${type.split('.')[0]}.*`)), ...eventTypes]

/** The types that the patterns name; null where one of them names none. @param patterns none: every type */
export function chosenTypes (patterns: readonly string[]): ReadonlySet<string> | null {
  if (patterns.length === 0) return new Set(eventTypes)
  const chosen = new Set<string>()
  for (const pattern of patterns) {
    if (!typePatterns.includes(pattern)) return null
    for (const type of eventTypes) if (pattern === '*' || pattern === type || (pattern.endsWith('.*') && type.startsWith(pattern.slice(0, -1)))) chosen.add(type)
  }
  return chosen
}
