/**
 * Port: fleet search (DESIGN 3.5): a row a device, made of the registry, its own twin and its presence, and asked by filters
 * (core/filter). A projection: what an answer holds is what was brought over so far.
 *
 * Every call rejects with `analytics_unavailable` where ClickHouse does not do it; a write may then be in, in part, or not, and is repeated.
 * What a write returned for is on stable storage.
 */
import type { Filter, FilterField } from '../core/filter/filter.js'
import type { Value } from '../core/reading.js'
import type { JsonObject } from '../twin/twin-model.js'
import type { Device } from '../tenancy/model.js'

/** A device as it was read; null: it was not there. */
export interface TwinRow {
  readonly tenant: string
  readonly id: string
  /** Stamp taken before it was read, µs: of several rows of a device the one with the greatest stands. */
  readonly readAt: number
  readonly record: TwinRecord | null
}

export interface TwinRecord {
  readonly device: Device
  readonly tags: Readonly<Record<string, string>>
  readonly desired: JsonObject
  readonly reported: JsonObject
  readonly version: number
  readonly desiredVersion: number
  readonly reportedVersion: number
  /** µs; 0: never. */
  readonly updatedAt: number
  /** null: never connected. */
  readonly connection: TwinConnection | null
  /** µs; 0: never heard. */
  readonly lastActivity: number
  /** Values with a lower accept stamp are not this device's. */
  readonly erasedBefore: number
}

export interface TwinConnection {
  readonly state: 'connected' | 'disconnected'
  /** µs */
  readonly since: number
  /** Why it ended. */
  readonly reason: string | null
}

export interface SearchSort {
  readonly field: FilterField
  readonly order: 'asc' | 'desc'
}

/** Which devices. */
export interface SearchChoice {
  readonly tenant: string
  readonly filter: Filter | null
  /** null: any. */
  readonly device: string | null
  /** What `now` is, µs. */
  readonly nowUs: number
  /** Latest values before this event time have expired, µs. */
  readonly oldestTs: number
}

export interface SearchQuery extends SearchChoice {
  /** Before the id, which decides last. Devices without the field come last in both orders; numbers before texts before booleans, texts by their first 100 characters. */
  readonly sort: readonly SearchSort[]
  /** Position of the page before. */
  readonly after: SearchPosition | null
  readonly limit: number
  /** What of the devices is wanted beside what is small. */
  readonly documents: boolean
  readonly latest: readonly string[]
}

/** Opaque; belongs to one `sort`. */
export type SearchPosition = readonly (string | number)[]

export interface FoundTwin {
  readonly id: string
  readonly name: string
  readonly type: string
  readonly gateway: string | null
  readonly createdAt: number
  readonly tags: Readonly<Record<string, string>>
  readonly connection: TwinConnection | null
  /** µs; 0: never heard. */
  readonly lastActivity: number
  readonly version: number
  readonly desiredVersion: number
  readonly reportedVersion: number
  readonly updatedAt: number
  /** Empty where documents were not asked for. */
  readonly desired: JsonObject
  readonly reported: JsonObject
  /** Those asked for that have a value. */
  readonly latest: Readonly<Record<string, { readonly ts: number, readonly value: Value }>>
}

/** Different metrics that one search may look at: each is a join. */
export const searchMetricsMax = 5
/** Fields that one search may be sorted by. */
export const searchSortsMax = 3

export interface TwinSearchStore {
  /** At most 10,000. */
  putTwins (rows: readonly TwinRow[]): Promise<void>
  /** When devices were last heard, µs; the latest stands. */
  putActivity (rows: readonly { readonly tenant: string, readonly device: string, readonly at: number }[]): Promise<void>
  /** Takes away devices (of a tenant; null: of all) that were read before the stamp and not again: a look at all devices did not find them. */
  dropTwinsBefore (tenant: string | null, readAt: number): Promise<void>
  /**
   * Devices that differ from the registry's projection (table `devices`), which looks at every device now and then: those whose change was
   * not heard of.
   */
  strayTwins (limit: number): Promise<readonly { readonly tenant: string, readonly device: string }[]>
  /**
   * Ids come from one look, what is told of them from the next: a device that changed between the two is as it is then.
   * @throws TwinfoldError `invalid_field` (`filter`: it costs too much)
   */
  findTwins (query: SearchQuery): Promise<{ readonly twins: readonly FoundTwin[], readonly next: SearchPosition | null }>
  /** Ids alone, in order of id. @throws as `findTwins` */
  findIds (choice: SearchChoice, after: string, limit: number): Promise<readonly string[]>
  /** @throws as `findTwins` */
  countTwins (choice: SearchChoice): Promise<number>
  /** A number of this installation's that tells whether these tables are still the ones that were filled; null: they never were. */
  getFilled (): Promise<number | null>
  putFilled (stamp: number): Promise<void>
}
