/** Messages to and from the thread that brings data into analytics, beside the projection's own (protocol.ts). Plain data. */
import type { StoreSpec, ClickHouseSettings } from './protocol.js'

export interface ProjectWorkerData {
  readonly store: StoreSpec
  readonly clickHouse: ClickHouseSettings
  /** How long erasures may be remembered, milliseconds. */
  readonly leaseMs: number
}

/** All points and sealed hours of these devices, anew from the store. */
export interface RebuildTask {
  readonly kind: 'rebuild'
  readonly tenant: string
  readonly devices: readonly string[]
  /** When the rebuild began, µs. */
  readonly startedUs: number
}

export interface RebuildResult {
  readonly kind: 'rebuild'
  readonly points: number
  readonly hours: number
  readonly damaged: readonly string[]
}

/** Looks at all devices and erasures of the registry, and brings analytics in line with them. */
export interface UpkeepTask {
  readonly kind: 'upkeep'
  readonly nowUs: number
  /** Erasures with a stamp from here on, µs, are carried out. */
  readonly erasuresFromUs: number
  readonly devices: boolean
}

export interface UpkeepResult {
  readonly kind: 'upkeep'
  readonly devices: number
  readonly erasures: number
  readonly partitionsDropped: number
}
