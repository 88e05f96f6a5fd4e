/**
 * Names that users choose, and the shard of a device. DESIGN section 1: a device id is 1 to 128 characters of
 * `A-Z a-z 0-9 . _ : @ -`; none of them is a topic or key separator, so ids can stand in both unescaped.
 */
import { deviceIdCharsMax, shardCount, tenantIdCharsMax } from './limits.js'

const deviceIdPattern = new RegExp(`^[A-Za-z0-9._:@-]{1,${deviceIdCharsMax}}$`)
const tenantIdPattern = new RegExp(`^[a-z0-9][a-z0-9_-]{0,${tenantIdCharsMax - 1}}$`)

export function isDeviceId (value: unknown): value is string {
  return typeof value === 'string' && deviceIdPattern.test(value)
}

/** Tenant ids are lower case: they appear in topics, directories and metric labels. */
export function isTenantId (value: unknown): value is string {
  return typeof value === 'string' && tenantIdPattern.test(value)
}

const twinNamePattern = /^[A-Za-z0-9._:@-]{1,64}$/
/** Words that stand where a twin's name would in topics. */
const twinWords: ReadonlySet<string> = new Set(['reported', 'desired', 'delta', 'get', 'accepted', 'rejected'])

/** Names of a device's further twins: 1 to 64 characters as in device ids; words of the topics are no names. */
export function isTwinName (value: unknown): value is string {
  return typeof value === 'string' && twinNamePattern.test(value) && !twinWords.has(value)
}

/** FNV-1a, 32 bit, over the UTF-16 code units (ids are ASCII). Part of the key layout: it never changes. */
export function hash32 (text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  }
  return hash >>> 0
}

/** The shard (0 to 255) that holds a device's slab rows and claims. Part of the key layout. */
export function shardOf (deviceId: string): number {
  const hash = hash32(deviceId)
  return (hash ^ (hash >>> 16)) & (shardCount - 1)
}
