/**
 * What a principal may publish and subscribe to (DESIGN 4.1), on tenant-relative topics. Pure.
 *
 * A device owns `devices/{its id}/…`; `telemetry` is short for `devices/{its id}/telemetry`. Whether a gateway may
 * speak for another device depends on the registry, so that answer is `ask`: the caller looks the device up.
 */
import { isDeviceId } from '../core/ids.js'
import type { Principal } from '../tenancy/model.js'

export type PublishTarget =
  /** Telemetry of the device: to the journal. */
  | { readonly kind: 'telemetry', readonly device: string }
  /** Plain publish through the broker. */
  | { readonly kind: 'plain' }
  | { readonly kind: 'refused', readonly reason: string }

/** The device that a topic speaks for, and what it says; null for topics outside `devices/` and `telemetry`. */
export function parseDeviceTopic (topic: string): { device: string | null, rest: string } | null {
  if (topic === 'telemetry') return { device: null, rest: 'telemetry' }
  if (!topic.startsWith('devices/')) return null
  const slash = topic.indexOf('/', 8)
  if (slash === -1) return null
  return { device: topic.slice(8, slash), rest: topic.slice(slash + 1) }
}

/** Topics under a device that the device itself may publish to. */
const deviceMayPublish = /^(telemetry|twin\/reported|twin\/get|events\/[^/]{1,128}|commands\/[^/]{1,128}\/response\/[^/]{1,128})$/

/**
 * Classifies a PUBLISH. For role `device`, a target that names another device must additionally be confirmed as a
 * registered child of this gateway by the caller.
 */
export function publishTarget (principal: Principal, topic: string): PublishTarget {
  const parsed = parseDeviceTopic(topic)
  if (principal.role === 'viewer') return { kind: 'refused', reason: 'viewers do not publish' }
  if (principal.role === 'admin' || principal.tenant === null) return { kind: 'refused', reason: 'a platform key belongs to no tenant; use a key of the tenant' }
  if (principal.role === 'device') {
    if (parsed === null) return { kind: 'refused', reason: 'a device publishes under devices/{its id}/ only' }
    const device = parsed.device ?? principal.device as string
    if (!isDeviceId(device)) return { kind: 'refused', reason: 'the topic names no valid device id' }
    if (!deviceMayPublish.test(parsed.rest)) return { kind: 'refused', reason: 'a device publishes telemetry, twin/reported, twin/get, events/{type} and command responses' }
    return parsed.rest === 'telemetry' ? { kind: 'telemetry', device } : { kind: 'plain' }
  }
  if (topic.startsWith('$')) return { kind: 'refused', reason: 'topics that begin with $ belong to the server' }
  if (parsed !== null && /^live(\/|$)/.test(parsed.rest)) return { kind: 'refused', reason: 'live readings come from the server; publish telemetry instead' }
  if (parsed?.rest === 'telemetry') {
    if (parsed.device === null) return { kind: 'refused', reason: 'telemetry without a device id needs a device token' }
    if (!isDeviceId(parsed.device)) return { kind: 'refused', reason: 'the topic names no valid device id' }
    return { kind: 'telemetry', device: parsed.device }
  }
  return { kind: 'plain' }
}

/** May the principal subscribe to the (valid, tenant-relative) filter? */
export function maySubscribe (principal: Principal, filter: string): boolean {
  if (principal.tenant === null || filter.startsWith('$')) return false
  if (principal.role === 'device') return filter.startsWith(`devices/${principal.device as string}/`)
  return true
}
