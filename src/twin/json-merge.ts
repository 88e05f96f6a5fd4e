/** JSON merge patch (RFC 7396), the patch that leads from one object to another, and equality. Pure; no argument is changed. */
import type { Json, JsonObject } from './twin-model.js'

export function isObject (value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Sets an own property whatever its name is: plain assignment of `__proto__` would change the prototype instead. */
export function put (target: Record<string, Json>, key: string, value: Json): void {
  if (key === '__proto__') Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true })
  else target[key] = value
}

export function own (target: JsonObject, key: string): Json | undefined {
  return Object.hasOwn(target, key) ? target[key] : undefined
}

/** RFC 7396 section 2. */
export function mergePatch (target: JsonObject, patch: JsonObject): JsonObject {
  const result: Record<string, Json> = { ...target }
  for (const key of Object.keys(patch)) {
    const value = patch[key]
    if (value === null) {
      delete result[key]
    } else if (isObject(value)) {
      const before = own(target, key)
      put(result, key, mergePatch(isObject(before) ? before : {}, value))
    } else {
      put(result, key, value)
    }
  }
  return result
}

/** The smallest merge patch that makes `after` of `before`; `after` has no null outside of arrays. Empty where they are equal. */
export function diffPatch (before: JsonObject, after: JsonObject): JsonObject {
  const patch: Record<string, Json> = {}
  for (const key of Object.keys(before)) if (!Object.hasOwn(after, key)) put(patch, key, null)
  for (const key of Object.keys(after)) {
    const was = own(before, key)
    const is = after[key]
    if (was !== undefined && isObject(was) && isObject(is)) {
      const inner = diffPatch(was, is)
      if (Object.keys(inner).length > 0) put(patch, key, inner)
    } else if (was === undefined || !sameJson(was, is)) {
      put(patch, key, is)
    }
  }
  return patch
}

/** Equal as JSON: members in any order, -0 as 0. */
export function sameJson (a: Json, b: Json): boolean {
  if (a === b) return true
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((item, i) => sameJson(item as Json, b[i] as Json))
  if (!isObject(a) || !isObject(b)) return false
  const keys = Object.keys(a)
  return keys.length === Object.keys(b).length && keys.every(key => Object.hasOwn(b, key) && sameJson(a[key], b[key]))
}

export function isEmpty (object: object): boolean {
  for (const key in object) if (Object.hasOwn(object, key)) return false
  return true
}
