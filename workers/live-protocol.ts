/**
 * What the main thread tells the packers about readings that somebody watches now, and what they give back: text that is
 * ready for sockets, so that the main thread does nothing per point.
 */

/** How the text of a reading is written: server-sent events, or one JSON document a line for MQTT payloads. */
export type LiveForm = 'sse' | 'mqtt'

/** What of a device's readings is wanted, and how it is written. Equal filters have equal keys, on every node. */
export interface LiveFilter {
  readonly key: string
  readonly form: LiveForm
  readonly times: 'iso' | 'ms'
  /** null: all. */
  readonly metrics: readonly string[] | null
}

/**
 * Who is watched. Goes with every task while somebody watches; the bytes are shared with all threads, which read them when the
 * version changes.
 */
export interface LiveWants {
  readonly version: number
  /** JSON of `WantedReadings`. */
  readonly bytes: SharedArrayBuffer
}

/** Numbers are places in `filters`. */
export interface WantedReadings {
  readonly filters: readonly LiveFilter[]
  readonly tenants: readonly WantedTenant[]
}

/** Tenant, filters that want every device of it, and those that want one device. */
export type WantedTenant = readonly [tenant: string, all: readonly number[], devices: readonly (readonly [device: string, filters: readonly number[]])[]]

/** Readings of one device in one slice, for one filter. */
export interface LiveGroup {
  readonly tenant: string
  readonly device: string
  /** Key of the filter. */
  readonly filter: string
  /** The slice: journal and mark. */
  readonly id: string
  /** Readings in `text`, in the order of their arrival. */
  readonly readings: number
  readonly text: string
  /** JSON of `NewestValue[]`: by metric, the newest of all readings of the group, those left out too. */
  readonly newest: string
  /** Readings that are in `newest` only, because the slice had more than its bound. */
  readonly omitted: number
}

/** `"metric":{"ts":…,"value":…}`, and what it is compared by: µs. */
export type NewestValue = readonly [metric: string, ts: number, text: string]

export interface LiveReadings {
  readonly groups: readonly LiveGroup[]
  /** Tenants of which readings are in no group, not even as newest values. */
  readonly lossy: readonly string[]
}
