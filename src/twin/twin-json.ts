/** Twins as devices get them over MQTT: times in milliseconds. */
import { usPerMs } from '../core/reading.js'
import { leavesOf } from './leaf-path.js'
import type { JsonObject, LeafTime, TwinView } from './twin-model.js'

function times (byPath: Readonly<Record<string, LeafTime>>): object {
  return Object.fromEntries(Object.entries(byPath).map(([path, { at, v }]) => [path, { timestamp: at / usPerMs, ...(v === undefined ? {} : { version: v }) }]))
}

/** Of the leaves that the delta names and desired has. */
function timesOf (part: JsonObject, byPath: Readonly<Record<string, LeafTime>>): object {
  const found: Record<string, LeafTime> = {}
  for (const { path } of leavesOf(part)) if (Object.hasOwn(byPath, path)) found[path] = byPath[path]
  return times(found)
}

/** `twin/delta`: what the device is to change. */
export function deltaJson ({ version, desiredVersion, updatedAt, delta, metadata }: TwinView): string {
  return JSON.stringify({ version, desiredVersion, timestamp: updatedAt / usPerMs, state: delta, metadata: timesOf(delta, metadata.desired) })
}

/** `twin/desired`: the whole desired state. */
export function desiredJson ({ version, desiredVersion, updatedAt, desired, metadata }: TwinView): string {
  return JSON.stringify({ version, desiredVersion, timestamp: updatedAt / usPerMs, state: desired, metadata: times(metadata.desired) })
}

/** The answer to `twin/get`. */
export function twinJson ({ deviceId, name, tags, desired, reported, delta, metadata, version, desiredVersion, reportedVersion, updatedAt, names }: TwinView): string {
  return JSON.stringify({
    deviceId, ...(name === '' ? { tags, names } : { name }), desired, reported, delta, metadata: { desired: times(metadata.desired), reported: times(metadata.reported) },
    version, desiredVersion, reportedVersion, timestamp: updatedAt / usPerMs
  })
}
