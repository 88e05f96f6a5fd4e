/**
 * Leaves of a twin's state by path. A leaf is every value that is not an object, and an object without members. A path names the keys
 * from the top, with dots between; a dot or backslash in a key is escaped by a backslash.
 */
import { isEmpty, isObject, own, put } from './json-merge.js'
import type { Json, JsonObject } from './twin-model.js'

export function pathOf (keys: readonly string[]): string {
  return keys.map(escapeKey).join('.')
}

function escapeKey (key: string): string {
  return /[.\\]/.test(key) ? key.replace(/[.\\]/g, '\\$&') : key
}

function childPath (path: string, key: string): string {
  return path === '' ? escapeKey(key) : `${path}.${escapeKey(key)}`
}

export function keysOf (path: string): string[] {
  const keys: string[] = []
  let key = ''
  for (let i = 0; i < path.length; i++) {
    const char = path[i]
    if (char === '\\') key += path[++i] ?? ''
    else if (char === '.') { keys.push(key); key = '' } else key += char
  }
  keys.push(key)
  return keys
}

export interface Leaf {
  readonly path: string
  readonly keys: readonly string[]
  /** In a patch null: the path is removed. */
  readonly value: Json
}

/** Leaves in the order of the object's members. */
export function leavesOf (object: JsonObject): Leaf[] {
  const leaves: Leaf[] = []
  gather(object, '', [], leaves)
  return leaves
}

function gather (object: JsonObject, path: string, keys: readonly string[], leaves: Leaf[]): void {
  for (const key of Object.keys(object)) {
    const value = object[key]
    const inner = childPath(path, key)
    const innerKeys = [...keys, key]
    if (isObject(value) && !isEmpty(value)) gather(value, inner, innerKeys, leaves)
    else leaves.push({ path: inner, keys: innerKeys, value })
  }
}

/** The leaves below a path, or the one at it; none where there is nothing. */
export function leavesAt (object: JsonObject, keys: readonly string[]): Leaf[] {
  const value = valueAt(object, keys)
  if (value === undefined) return []
  const path = pathOf(keys)
  if (!isObject(value) || isEmpty(value)) return [{ path, keys, value }]
  const leaves: Leaf[] = []
  gather(value, path, keys, leaves)
  return leaves
}

export function valueAt (object: JsonObject, keys: readonly string[]): Json | undefined {
  let value: Json = object
  for (const key of keys) {
    const next: Json | undefined = isObject(value) ? own(value, key) : undefined
    if (next === undefined) return undefined
    value = next
  }
  return value
}

/** Paths above, from the top; not the path itself. */
export function pathsAbove (keys: readonly string[]): string[] {
  const paths: string[] = []
  for (let n = 1; n < keys.length; n++) paths.push(pathOf(keys.slice(0, n)))
  return paths
}

/** Sets a value in an object that is being built; makes the objects on the way. */
export function setAt (target: Record<string, Json>, keys: readonly string[], value: Json): void {
  let object = target
  for (const key of keys.slice(0, -1)) {
    let next = own(object, key)
    if (next === undefined || !isObject(next)) {
      next = {}
      put(object, key, next)
    }
    object = next as Record<string, Json>
  }
  put(object, keys[keys.length - 1], value)
}
