/**
 * What a principal may publish and subscribe to (DESIGN 4.1), on tenant-relative topics. Pure.
 *
 * A device owns `devices/{its id}/…`; what it says may leave `devices/{its id}/` out (`telemetry`, `twin/reported`, `events/{type}`, …).
 * Whether a gateway may speak and listen for another device depends on the registry, and so does whether the device that an
 * application speaks for exists: that answer is the caller's to get. What comes from the server (desired state, deltas, commands,
 * live readings, `twinfold/…`) nobody else publishes.
 */
import { isDeviceId, isTwinName } from '../core/ids.js'
import type { Principal } from '../tenancy/model.js'

export type PublishTarget =
  /** Telemetry of the device: to the journal. */
  | { readonly kind: 'telemetry', readonly device: string }
  /** Reported state, an answer to a command, an event: to the journal and the applier. `path`: what follows `devices/{id}/`. */
  | { readonly kind: 'message', readonly device: string, readonly path: string }
  /** `twin/get`: answered to the connection that asks. `name`: '' for the device's own twin. */
  | { readonly kind: 'question', readonly device: string, readonly name: string }
  /** Plain publish through the broker. */
  | { readonly kind: 'plain' }
  | { readonly kind: 'refused', readonly reason: string }

/** What a device says about itself beside telemetry, kept in the journal for the applier. */
const messagePath = /^(?:twin\/(?:([^/]+)\/)?reported|events\/[^/]{1,128}|commands\/[^/]{1,128}\/response\/[^/]{1,128})$/
const questionPath = /^twin\/(?:([^/]+)\/)?get$/
/** Below a device, and the server's to publish to or to refuse. */
const serverPath = /^(?:twin(?:\/|$)|commands\/[^/]*\/(?:request|response|status)(?:\/|$))/

/** The device that a topic speaks for, null where it is the connected one, and what it says; null for topics of another kind. */
export function parseDeviceTopic (topic: string): { device: string | null, rest: string } | null {
  if (!topic.startsWith('devices/')) return topic === 'telemetry' || isMessagePath(topic) || questionPath.test(topic) ? { device: null, rest: topic } : null
  const slash = topic.indexOf('/', 8)
  if (slash === -1) return null
  return { device: topic.slice(8, slash), rest: topic.slice(slash + 1) }
}

/** Does the part of a topic after `devices/{id}/` go to the applier? */
export function isMessagePath (path: string): boolean {
  const match = messagePath.exec(path)
  return match !== null && (match[1] === undefined || isTwinName(match[1]))
}

/** The twin that is asked for; null where nothing is. */
function questionOf (path: string): string | null {
  const match = questionPath.exec(path)
  if (match === null) return null
  const name = match[1] ?? ''
  return name === '' || isTwinName(name) ? name : null
}

/** What a device, or somebody in its place, says below `devices/{id}/`; null for anything else. */
function speech (device: string, path: string): PublishTarget | null {
  if (path === 'telemetry') return { kind: 'telemetry', device }
  if (isMessagePath(path)) return { kind: 'message', device, path }
  const name = questionOf(path)
  return name === null ? null : { kind: 'question', device, name }
}

const refused = (reason: string): PublishTarget => ({ kind: 'refused', reason })

/**
 * Classifies a PUBLISH. For role `device`, a target that names another device must additionally be confirmed as a
 * registered child of this gateway by the caller; for other roles, a target that names a device as registered.
 */
export function publishTarget (principal: Principal, topic: string): PublishTarget {
  if (principal.role === 'viewer') return refused('viewers do not publish')
  if (principal.role === 'admin' || principal.tenant === null) return refused('a platform key belongs to no tenant; use a key of the tenant')
  const parsed = parseDeviceTopic(topic)
  return principal.role === 'device' ? deviceTarget(principal.device as string, parsed) : applicationTarget(topic, parsed)
}

function deviceTarget (self: string, parsed: ReturnType<typeof parseDeviceTopic>): PublishTarget {
  if (parsed === null) return refused('a device publishes under devices/{its id}/ only')
  const device = parsed.device ?? self
  if (!isDeviceId(device)) return refused('the topic names no valid device id')
  return speech(device, parsed.rest) ?? refused('a device publishes telemetry, twin/reported, twin/get, events/{type} and command responses')
}

function applicationTarget (topic: string, parsed: ReturnType<typeof parseDeviceTopic>): PublishTarget {
  if (topic.startsWith('$')) return refused('topics that begin with $ belong to the server')
  if (/^twinfold(\/|$)/.test(topic)) return refused('topics below twinfold/ belong to the server')
  if (parsed === null) return { kind: 'plain' }
  const { device, rest } = parsed
  if (device === null) return rest === 'telemetry' ? refused('telemetry without a device id needs a device token') : { kind: 'plain' }
  if (/^live(\/|$)/.test(rest)) return refused('live readings come from the server; publish telemetry instead')
  const target = speech(device, rest)
  if (target !== null) return isDeviceId(device) ? target : refused('the topic names no valid device id')
  return serverPath.test(rest) ? refused('desired state, deltas and commands come from the server; use the HTTP API') : { kind: 'plain' }
}

/**
 * May the principal subscribe to the (valid, tenant-relative) filter? `ask`: a device may where that device is registered under it.
 * A device names its ids: a wildcard in their place would reach its neighbours.
 */
export function maySubscribe (principal: Principal, filter: string): boolean | { readonly ask: string } {
  if (principal.tenant === null || filter.startsWith('$')) return false
  if (principal.role !== 'device') return true
  const slash = filter.indexOf('/', 8)
  if (!filter.startsWith('devices/') || slash === -1) return false
  const device = filter.slice(8, slash)
  if (device === principal.device) return true
  return isDeviceId(device) ? { ask: device } : false
}
