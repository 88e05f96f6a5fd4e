/** A twin's state as others see it, with the delta. Pure. */
import { isEmpty, isObject, own, put, sameJson } from './json-merge.js'
import { keysOf, setAt, valueAt } from './leaf-path.js'
import type { Json, JsonObject, LeafTime, TwinId, TwinView } from './twin-model.js'
import type { LeafTimes, TwinState } from './twin-state.js'

/**
 * The parts of desired that differ from reported. What was taken out of desired and is still reported stands as null, until the device
 * has spoken about it since: it either removes it or insists, and the delta is done with it.
 */
export function deltaOf (state: Pick<TwinState, 'desired' | 'reported' | 'times' | 'gone'>): JsonObject {
  const delta = differing(state.desired, state.reported)
  for (const [path, removed] of state.gone.desired) {
    const keys = keysOf(path)
    const is = valueAt(state.reported, keys)
    if (is === undefined || isObject(is) || valueAt(state.desired, keys) !== undefined) continue
    const reported = state.times.reported.get(path)
    if (reported !== undefined && reported.stamp > removed.stamp) continue
    // Below something that differs as a whole there is nothing to remove.
    if (reachesObjects(state.reported, keys) && reachesObjects(delta, keys)) setAt(delta, keys, null)
  }
  return delta
}

function differing (desired: JsonObject, reported: JsonObject): Record<string, Json> {
  const delta: Record<string, Json> = {}
  for (const key of Object.keys(desired)) {
    const wanted = desired[key]
    const is = own(reported, key)
    if (is !== undefined && isObject(wanted) && isObject(is)) {
      const inner = differing(wanted, is)
      if (!isEmpty(inner)) put(delta, key, inner)
    } else if (is === undefined || !sameJson(wanted, is)) {
      put(delta, key, wanted)
    }
  }
  return delta
}

/** Everything above the path is an object or absent. */
function reachesObjects (object: JsonObject, keys: readonly string[]): boolean {
  let at: Json | undefined = object
  for (const key of keys.slice(0, -1)) {
    at = isObject(at) ? own(at, key) : undefined
    if (at === undefined) return true
    if (!isObject(at)) return false
  }
  return true
}

export function viewOf ({ device, name }: TwinId, state: TwinState): TwinView {
  return {
    deviceId: device,
    name,
    tags: state.tags,
    desired: state.desired,
    reported: state.reported,
    delta: deltaOf(state),
    metadata: { desired: timesView(state.times.desired), reported: timesView(state.times.reported) },
    version: state.version,
    desiredVersion: state.desiredVersion,
    reportedVersion: state.reportedVersion,
    tagsVersion: state.tagsVersion,
    createdAt: state.createdAt,
    updatedAt: state.updatedAt,
    ...(name === '' ? { names: state.names } : {})
  }
}

function timesView (times: LeafTimes): Readonly<Record<string, LeafTime>> {
  return Object.fromEntries(times)
}
