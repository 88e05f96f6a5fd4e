/** Leaves of tags, desired and reported as they stand in the maps of the `twins` table: where a path is, and all that a record has. Pure. */
import { createHash } from 'node:crypto'
import type { JsonObject, Json } from '../../twin/twin-model.js'

export const leafMaps = 8

export interface LeafKey {
  /** Number of the map. */
  readonly map: number
  readonly low: number
  readonly high: number
  /** The key in decimal. */
  readonly text: string
}

export type LeafPart = 'tags' | 'desired' | 'reported'

/** Written into tables: it never changes. The path as JSON, so that no two paths are one text. */
export function leafKey (part: LeafPart, path: readonly string[]): LeafKey {
  const hash = createHash('md5').update(JSON.stringify([part, ...path])).digest()
  return { map: hash[8] % leafMaps, low: hash.readUInt32LE(0), high: hash.readUInt32LE(4), text: hash.readBigUInt64LE(0).toString() }
}

/** Flags of the maps f0 to f7: booleans, and what exists without being a value to compare with. */
export const leafFlags = { false: 0, true: 1, container: 2 } as const

export interface Leaves {
  readonly strings: readonly (readonly [LeafKey, string])[][]
  readonly numbers: readonly (readonly [LeafKey, number])[][]
  readonly flags: readonly (readonly [LeafKey, number])[][]
  /** UTF-16 units of all strings, and how many leaves there are. */
  readonly chars: number
  readonly count: number
}

const cachedMax = 20_000

/** Devices of a fleet have the same paths: their keys are remembered, bounded. */
export class LeafReader {
  readonly #keys = new Map<string, LeafKey>()

  read (tags: Readonly<Record<string, string>>, desired: JsonObject, reported: JsonObject): Leaves {
    const maps = <T> (): (readonly [LeafKey, T])[][] => Array.from({ length: leafMaps }, () => [])
    const strings = maps<string>()
    const numbers = maps<number>()
    const flags = maps<number>()
    let chars = 0
    let count = 0
    const leaf = (key: LeafKey, value: Json): void => {
      count++
      if (typeof value === 'string') {
        chars += value.length + 1
        strings[key.map].push([key, `=${value}`])
      } else if (typeof value === 'number') {
        numbers[key.map].push([key, value])
      } else {
        flags[key.map].push([key, typeof value === 'boolean' ? (value ? leafFlags.true : leafFlags.false) : leafFlags.container])
      }
    }
    const walk = (part: LeafPart, object: JsonObject, path: readonly string[]): void => {
      for (const name of Object.keys(object)) {
        const value = object[name]
        if (value === null) continue
        const inner = [...path, name]
        leaf(this.#key(part, inner), value)
        if (typeof value === 'object' && !Array.isArray(value)) walk(part, value as JsonObject, inner)
      }
    }
    walk('tags', tags, [])
    walk('desired', desired, [])
    walk('reported', reported, [])
    return { strings, numbers, flags, chars, count }
  }

  #key (part: LeafPart, path: readonly string[]): LeafKey {
    const name = JSON.stringify([part, ...path])
    let key = this.#keys.get(name)
    if (key === undefined) {
      key = leafKey(part, path)
      if (this.#keys.size >= cachedMax) this.#keys.clear()
      this.#keys.set(name, key)
    }
    return key
  }
}
