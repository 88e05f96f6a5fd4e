/**
 * A twin as it is stored: what the reducer folds events into. Immutable. Everything in it follows from the twin's events, so that a
 * rebuild gives the same bytes (rebuild-twins.ts).
 */
import type { JsonObject, LeafTime } from './twin-model.js'

export type LeafTimes = ReadonlyMap<string, LeafTime>

export interface TwinState {
  /** False: there never was one, or it is deleted; the rest is empty then but `version`, `updatedAt` and `floor`. */
  readonly alive: boolean
  readonly version: number
  readonly desiredVersion: number
  readonly reportedVersion: number
  readonly tagsVersion: number
  /** µs */
  readonly createdAt: number
  /** Stamp of the last event, µs. */
  readonly updatedAt: number
  /** Stamp of the last deletion, µs, 0: never. What was accepted before it belongs to what was deleted. */
  readonly floor: number
  /** Named twins of the device, in the order they were made; only on its own twin. */
  readonly names: readonly string[]
  readonly tags: Readonly<Record<string, string>>
  readonly desired: JsonObject
  readonly reported: JsonObject
  /** Of the leaves that are there. */
  readonly times: { readonly desired: LeafTimes, readonly reported: LeafTimes }
  /** Of leaves that were removed, the oldest removal first, bounded by `goneMax`. */
  readonly gone: { readonly desired: LeafTimes, readonly reported: LeafTimes }
  /** Highest position applied of each journal, those heard of last at the end; bounded by `appliedMax`. */
  readonly applied: ReadonlyMap<string, number>
}

const noTimes: LeafTimes = new Map()

/** A twin that is not there. @param deletedAt stamp of its deletion, 0 where there never was one */
export function absentTwin (version: number, deletedAt: number): TwinState {
  return {
    alive: false,
    version,
    desiredVersion: 0,
    reportedVersion: 0,
    tagsVersion: 0,
    createdAt: 0,
    updatedAt: deletedAt,
    floor: deletedAt,
    names: [],
    tags: {},
    desired: {},
    reported: {},
    times: { desired: noTimes, reported: noTimes },
    gone: { desired: noTimes, reported: noTimes },
    applied: new Map()
  }
}
