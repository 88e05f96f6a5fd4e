/** Points as rows of the `points` table. Pure. */
import type { AnalyticsPoint } from '../analytics-store.js'
import { RowBuffer } from './row-buffer.js'

/** The columns in the order in which they are written. */
export const pointColumns = ['tenant', 'metric', 'device', 'ts', 'type', 'number', 'boolean', 'string', 'version', 'written'] as const

/** What a row takes beside its texts: ts 8, type 1, number 8, boolean 1, version 16, written 4, four lengths of at most 5. */
const fixedBytesMax = 8 + 1 + 8 + 1 + 16 + 4 + 4 * 5
export const valueTypes = { number: 1, boolean: 2, string: 3 } as const

export class PointRows {
  readonly #rows = new RowBuffer()
  readonly #writtenS: number
  #journalId = ''
  #journalLow = 0
  #journalHigh = 0

  /** @param writtenS when the rows are written, seconds since the epoch. */
  constructor (writtenS: number) {
    this.#writtenS = writtenS
  }

  /** Bytes written since the last `take`. */
  get length (): number { return this.#rows.length }

  add (point: AnalyticsPoint): void {
    const { tenant, metric, device, ts, value, stamp, journalId } = point
    const rows = this.#rows
    const isText = typeof value === 'string'
    rows.reserve(fixedBytesMax, tenant.length + metric.length + device.length + (isText ? value.length : 0))
    rows.text(tenant)
    rows.text(metric)
    rows.text(device)
    rows.uint64(ts)
    rows.byte(valueTypes[typeof value as 'number' | 'boolean' | 'string'])
    rows.double(typeof value === 'number' ? value : 0)
    rows.byte(value === true ? 1 : 0)
    rows.text(isText ? value : '')
    this.#version(stamp, journalId)
    rows.uint32(this.#writtenS)
  }

  /** The rows added so far, in a buffer of their own. */
  take (): Buffer { return this.#rows.take() }

  /** "Accepted last" as one 128-bit number: the stamp in the upper half, the journal id in the lower. */
  #version (stamp: number, journalId: string): void {
    if (journalId !== this.#journalId) {
      this.#journalId = journalId
      this.#journalHigh = parseInt(journalId.slice(0, 8), 16)
      this.#journalLow = parseInt(journalId.slice(8), 16)
    }
    this.#rows.uint32(this.#journalLow)
    this.#rows.uint32(this.#journalHigh)
    this.#rows.uint64(stamp)
  }
}
