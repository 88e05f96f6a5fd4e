/**
 * What a twin may hold. A change is checked as a whole, its result before it is made: one that breaks a limit is refused with the
 * limit's name, the size and the place, and changes nothing (INVARIANTS 8).
 */
import type { Json, JsonObject } from './twin-model.js'

export interface TwinLimits {
  /** UTF-8 bytes of the JSON of each of desired and reported. */
  readonly partBytesMax: number
  readonly tagBytesMax: number
  readonly tagsMax: number
  /** Nesting of objects and arrays, the part itself counted. */
  readonly depthMax: number
  readonly keyCharsMax: number
  readonly namesMax: number
}

export const twinLimits: TwinLimits = { partBytesMax: 32 * 1024, tagBytesMax: 8 * 1024, tagsMax: 32, depthMax: 10, keyCharsMax: 128, namesMax: 64 }

/** Times of removed leaves kept in each part, the newest; an older report of a leaf that dropped out would be believed. */
export const goneMax = 100
/** Journals whose applied position a twin remembers, those heard of last. */
export const appliedMax = 64
export const reasonCharsMax = 256
/** As tags of a device are everywhere. */
export const tagNamePattern = /^[A-Za-z0-9_.:/-]{1,64}$/
export const tagValueCharsMax = 256

export interface Refusal {
  /** `limit_reached`: it would be allowed in a smaller size. */
  readonly code: 'invalid_field' | 'limit_reached'
  readonly detail: string
  /** JSON pointer. */
  readonly field: string
}

function pointer (field: string, key: string | number): string {
  return `${field}/${String(key).replace(/~/g, '~0').replace(/\//g, '~1')}`
}

/** A place as it is told in text: cut, so that a hostile key makes no long answer. */
function shown (place: string): string {
  return place.length <= 200 ? place : `${place.slice(0, 200)}…`
}

/**
 * What is wrong with the keys, numbers and nesting of a part or of a patch for it; null: nothing. Looks no deeper than the limit, so that no nesting
 * is too deep for it.
 */
export function checkShape (value: Json, field: string, limits: TwinLimits): Refusal | null {
  const fault = shapeFault(value, limits, 1)
  if (fault === null) return null
  const place = shown(fault.keys.reduceRight((above: string, key) => pointer(above, key), field))
  return { code: fault.code, detail: `${place}: ${fault.what}`, field: place }
}

/** Where it is told by its keys, the innermost first: a place in words is made of them only where something is wrong. */
interface ShapeFault { readonly code: Refusal['code'], readonly what: string, readonly keys: (string | number)[] }

function shapeFault (value: Json, limits: TwinLimits, depth: number): ShapeFault | null {
  if (typeof value === 'number') return Number.isFinite(value) ? null : { code: 'invalid_field', what: 'the number is out of the range of a double', keys: [] }
  if (typeof value !== 'object' || value === null) return null
  if (depth > limits.depthMax) return { code: 'limit_reached', what: `nested deeper than ${limits.depthMax}`, keys: [] }
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      const fault = shapeFault(value[i] as Json, limits, depth + 1)
      if (fault !== null) return below(i, fault)
    }
    return null
  }
  for (const key of Object.keys(value)) {
    const wrong = keyFault(key, limits)
    const fault = wrong === null ? shapeFault((value as JsonObject)[key], limits, depth + 1) : { code: 'invalid_field' as const, what: wrong, keys: [] }
    if (fault !== null) return below(key, fault)
  }
  return null
}

function below (key: string | number, fault: ShapeFault): ShapeFault {
  fault.keys.push(key)
  return fault
}

function keyFault (key: string, limits: TwinLimits): string | null {
  if (key.length === 0 || key.length > limits.keyCharsMax) return `a key has ${key.length} characters; 1 to ${limits.keyCharsMax} are allowed`
  if (/[\u0000-\u001f\u007f-\u009f]/.test(key)) return 'a key has a control character'
  if (key.startsWith('$')) return "a key begins with '$', which is kept for the server"
  return key === '__proto__' ? "the key '__proto__' is not allowed" : null
}

/** The size of a part after a change. */
export function checkSize (part: 'desired' | 'reported', state: JsonObject, limits: TwinLimits): Refusal | null {
  const bytes = Buffer.byteLength(JSON.stringify(state))
  if (bytes <= limits.partBytesMax) return null
  return { code: 'limit_reached', detail: `${part} would have ${bytes} bytes; ${limits.partBytesMax} are allowed`, field: `/${part}` }
}

/** Tags after a change. */
export function checkTags (tags: Readonly<Record<string, string>>, limits: TwinLimits): Refusal | null {
  const names = Object.keys(tags)
  if (names.length > limits.tagsMax) return { code: 'limit_reached', detail: `the device would have ${names.length} tags; ${limits.tagsMax} are allowed`, field: '/tags' }
  for (const name of names) {
    const field = shown(pointer('/tags', name))
    if (!tagNamePattern.test(name) || name === '__proto__') return { code: 'invalid_field', detail: `${field}: a tag's name is 1 to 64 characters of A-Z a-z 0-9 _ . : / -`, field }
    if (typeof tags[name] !== 'string') return { code: 'invalid_field', detail: `${field}: a tag's value is a string`, field }
    if (tags[name].length > tagValueCharsMax) return { code: 'invalid_field', detail: `${field}: a tag's value has ${tags[name].length} characters; ${tagValueCharsMax} are allowed`, field }
  }
  const bytes = Buffer.byteLength(JSON.stringify(tags))
  return bytes <= limits.tagBytesMax ? null : { code: 'limit_reached', detail: `tags would have ${bytes} bytes; ${limits.tagBytesMax} are allowed`, field: '/tags' }
}
