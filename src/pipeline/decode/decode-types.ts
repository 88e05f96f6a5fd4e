/** What a decoder of message bodies is given and returns (DESIGN 4.1: readings; RFC 8428: SenML). */
import type { DeadLetterReason } from '../../store/dead-letter-store.js'
import type { SliceTable } from '../slice-table.js'

export interface DecodeContext {
  readonly table: SliceTable
  readonly tenant: string
  /** The device the body belongs to, '' where readings must name theirs (`multiDevice`). */
  readonly device: string
  /** Device number of `device` in the table (table.deviceNumber), -1 where `device` is ''. */
  readonly deviceNumber: number
  readonly multiDevice: boolean
  /** Accept stamp of the message, µs; element i of an array without `ts` gets stamp + i as its timestamp. */
  readonly stamp: number
  /** Timestamps below are older than the tenant's retention at the stamp (`ts_expired`). */
  readonly oldestTs: number
  /** Timestamps above are too far ahead (`ts_future`). */
  readonly newestTs: number
  /**
   * Unique timestamps of unstamped array elements within the slice: the last one given to a device number. A decoder
   * uses max(stamp + i, last + 1) and records it, so that two arrays of one device never share a timestamp.
   */
  readonly lastUnstamped: Map<number, number>
  /** Timestamps are stamp + i exactly, because another journal may hold the same message (RecordFlags.reserved). Default false. */
  readonly exact?: boolean
  /** Called for each refused part; the other readings of the message stay. */
  refuse(reason: DeadLetterReason, detail: string, device: string, payload: Uint8Array): void
  /** In a multi-device body: may readings be stored for this device? Called once per device and slice by the caller's cache. */
  deviceAllowed(device: string): boolean
}
