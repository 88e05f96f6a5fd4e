/** A twin's state as JSON in its entity, with the number of its format: a newer one is refused by name, never guessed at. */
import { TwinfoldError } from '../core/errors.js'
import type { LeafTimes, TwinState } from './twin-state.js'
import type { JsonObject, LeafTime } from './twin-model.js'

/** 1: the first. */
export const stateFormat = 1

type StoredTimes = readonly (readonly [path: string, at: number, stamp: number, v?: number])[]

interface Stored {
  readonly f: number
  readonly version: number
  readonly desiredVersion: number
  readonly reportedVersion: number
  readonly tagsVersion: number
  readonly createdAt: number
  readonly updatedAt: number
  readonly floor: number
  readonly names: readonly string[]
  readonly tags: Readonly<Record<string, string>>
  readonly desired: JsonObject
  readonly reported: JsonObject
  readonly times: readonly [desired: StoredTimes, reported: StoredTimes]
  readonly gone: readonly [desired: StoredTimes, reported: StoredTimes]
  readonly applied: readonly (readonly [journalId: string, position: number])[]
}

/** null for a twin that is not there. */
export function encodeState (state: TwinState): string | null {
  if (!state.alive) return null
  const { version, desiredVersion, reportedVersion, tagsVersion, createdAt, updatedAt, floor, names, tags, desired, reported, times, gone, applied } = state
  const stored: Stored = {
    f: stateFormat, version, desiredVersion, reportedVersion, tagsVersion, createdAt, updatedAt, floor, names, tags, desired, reported,
    times: [timesToStore(times.desired), timesToStore(times.reported)],
    gone: [timesToStore(gone.desired), timesToStore(gone.reported)],
    applied: [...applied]
  }
  return JSON.stringify(stored)
}

/** @throws TwinfoldError `format_newer`, `corrupt_data` */
export function decodeState (text: string): TwinState {
  let stored: Stored
  try {
    stored = JSON.parse(text) as Stored
  } catch (error) {
    throw new TwinfoldError('corrupt_data', 'the state of a twin is no JSON', { cause: error })
  }
  if (typeof stored?.f !== 'number' || stored.f < 1) throw new TwinfoldError('corrupt_data', 'the state of a twin names no format')
  if (stored.f > stateFormat) throw new TwinfoldError('format_newer', `the state of a twin has format ${stored.f}; this version of Twinfold knows ${stateFormat}`)
  const { version, desiredVersion, reportedVersion, tagsVersion, createdAt, updatedAt, floor, names, tags, desired, reported, times, gone, applied } = stored
  return {
    alive: true, version, desiredVersion, reportedVersion, tagsVersion, createdAt, updatedAt, floor, names, tags, desired, reported,
    times: { desired: storedTimes(times[0]), reported: storedTimes(times[1]) },
    gone: { desired: storedTimes(gone[0]), reported: storedTimes(gone[1]) },
    applied: new Map(applied)
  }
}

function timesToStore (times: LeafTimes): StoredTimes {
  return Array.from(times, ([path, { at, stamp, v }]) => v === undefined ? [path, at, stamp] as const : [path, at, stamp, v] as const)
}

function storedTimes (stored: StoredTimes): LeafTimes {
  return new Map(stored.map(([path, at, stamp, v]): [string, LeafTime] => [path, v === undefined ? { at, stamp } : { at, stamp, v }]))
}
