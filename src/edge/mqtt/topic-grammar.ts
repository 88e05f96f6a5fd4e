/**
 * Topic names and filters (MQTT 3.1.1 section 4.7) on their bytes. Pure. What breaks the standard closes the
 * connection; what is merely larger than our limits (`exceedsTopicLimits`) is refused and the connection stays.
 */
import { isUtf8 } from 'node:buffer'
import { isTwinName } from '../../core/ids.js'
import { topicBytesMax, topicLevelsMax } from '../../core/limits.js'

const plus = 0x2b
const slash = 0x2f
const hash = 0x23

/** UTF-8 without U+0000 (MQTT-1.5.3-1, -2); isUtf8 refuses surrogates and overlong forms. */
export function isMqttText (bytes: Uint8Array): boolean {
  return isUtf8(bytes) && !bytes.includes(0)
}

/** What is wrong with a topic name by the standard; null when it is valid. */
export function topicNameFault (bytes: Uint8Array): string | null {
  if (bytes.length === 0) return 'topic_empty'
  if (!isMqttText(bytes)) return 'topic_not_utf8'
  if (bytes.includes(plus) || bytes.includes(hash)) return 'topic_wildcard'
  return null
}

/** What is wrong with a topic filter by the standard; null when it is valid. */
export function filterFault (bytes: Uint8Array): string | null {
  if (bytes.length === 0) return 'filter_empty'
  if (!isMqttText(bytes)) return 'filter_not_utf8'
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i]
    if (byte !== plus && byte !== hash) continue
    const alone = (i === 0 || bytes[i - 1] === slash) && (i === bytes.length - 1 || bytes[i + 1] === slash)
    if (!alone || (byte === hash && i !== bytes.length - 1)) return 'filter_wildcard'
  }
  return null
}

/** Larger than `topicBytesMax`, or deeper than `topicLevelsMax`. */
export function exceedsTopicLimits (bytes: Uint8Array): boolean {
  if (bytes.length > topicBytesMax) return true
  let levels = 1
  for (let i = 0; i < bytes.length; i++) if (bytes[i] === slash) levels++
  return levels > topicLevelsMax
}

/** Does a valid filter match a topic? Wildcards in the first level match no topic that begins with `$` (MQTT-4.7.2-1). */
export function filterMatches (filter: string, topic: string): boolean {
  if (filter === topic) return true
  const wanted = filter.split('/')
  const levels = topic.split('/')
  if (topic.startsWith('$') && (wanted[0] === '+' || wanted[0] === '#')) return false
  for (let i = 0; i < wanted.length; i++) {
    if (wanted[i] === '#') return true
    if (i >= levels.length || (wanted[i] !== '+' && wanted[i] !== levels[i])) return false
  }
  return wanted.length === levels.length
}

/** Whose topics of one kind a filter can match: every device's of the tenant where `device` is null. */
export interface TopicReach {
  readonly tenant: string
  readonly device: string | null
}

/**
 * What a filter in broker form (`tenant/filter`) can match of the topics `tenant/devices/{id}/telemetry`;
 * null when it matches none of them.
 */
export function telemetryReach (brokerFilter: string): TopicReach | null {
  const [tenant, collection, device, kind, ...deeper] = brokerFilter.split('/')
  if (collection === '#') return { tenant, device: null }
  if (collection !== 'devices' && collection !== '+') return null
  if (device === '#') return { tenant, device: null }
  if (kind === undefined) return null
  if (kind !== '#') {
    if (kind !== 'telemetry' && kind !== '+') return null
    if (deeper.length > 1 || (deeper.length === 1 && deeper[0] !== '#')) return null
  }
  return { tenant, device: device === '+' ? null : device }
}

type Level = string | ((level: string) => boolean)
const any: Level = () => true

/** What a device says beside telemetry, after `devices/{id}/`. */
const messageForms: readonly (readonly Level[])[] = [['twin', 'reported'], ['twin', isTwinName, 'reported'], ['events', any], ['commands', any, 'response', any]]

/** The same of the topics `tenant/devices/{id}/…` that are for the applier (gate/access.ts). May name one that it matches none of. */
export function messageReach (brokerFilter: string): TopicReach | null {
  const [tenant, collection, device, ...levels] = brokerFilter.split('/') as [string, string?, string?, ...string[]]
  if (collection === '#') return { tenant, device: null }
  if (device === undefined || (collection !== 'devices' && collection !== '+')) return null
  if (device === '#') return { tenant, device: null }
  if (!messageForms.some(form => reachesForm(levels, form))) return null
  return { tenant, device: device === '+' ? null : device }
}

function reachesForm (filter: readonly string[], form: readonly Level[]): boolean {
  for (const [i, level] of filter.entries()) {
    if (level === '#') return true
    if (i === form.length) return false
    const wanted = form[i]
    if (level !== '+' && !(typeof wanted === 'string' ? wanted === level : wanted(level))) return false
  }
  return filter.length === form.length
}
