/**
 * What has gathered since the last mark. Kept twice by the journal: as appended and, with each group, as it is once the
 * group is durable, so that a failed group leaves no trace in the next mark.
 */
import type { SliceMark } from './record.js'
import { markRecordBytes } from './mark-record.js'

export interface SliceState {
  /** Position at which the open slice begins. */
  readonly from: number
  /** Records since the last mark, and their bytes, headers included. */
  readonly records: number
  readonly bytes: number
  /** Largest body among them, bytes. */
  readonly bodyBytesLargest: number
  /** Stamp of the last mark, 0 where there is none. */
  readonly markStamp: number
}

/** An element of an array of unstamped readings takes at least this much of a body, so a body of n bytes has at most n / 8. */
const elementBytesMin = 8

export class SliceTracker {
  #from: number
  #records: number
  #bytes: number
  #bodyBytesLargest: number
  #markStamp: number

  constructor (state: SliceState) {
    this.#from = state.from
    this.#records = state.records
    this.#bytes = state.bytes
    this.#bodyBytesLargest = state.bodyBytesLargest
    this.#markStamp = state.markStamp
  }

  get records (): number { return this.#records }
  get bytes (): number { return this.#bytes }
  get markStamp (): number { return this.#markStamp }

  add (recordBytes: number, bodyBytes: number): void {
    this.#records++
    this.#bytes += recordBytes
    if (bodyBytes > this.#bodyBytesLargest) this.#bodyBytesLargest = bodyBytes
  }

  /** How far stamps must move so that none is among those that elements of the slice's unstamped arrays take, µs. */
  get stampsToSkip (): number {
    return Math.floor(this.#bodyBytesLargest / elementBytesMin) + 1
  }

  /** The mark that closes the slice at a position. */
  markAt (to: number, stamp: number): SliceMark {
    return { from: this.#from, to, records: this.#records, stamp }
  }

  /** The next slice begins behind the mark. */
  marked (mark: SliceMark): void {
    this.#from = mark.to + markRecordBytes
    this.#records = 0
    this.#bytes = 0
    this.#bodyBytesLargest = 0
    this.#markStamp = mark.stamp
  }

  state (): SliceState {
    return { from: this.#from, records: this.#records, bytes: this.#bytes, bodyBytesLargest: this.#bodyBytesLargest, markStamp: this.#markStamp }
  }

  restore (state: SliceState): void {
    this.#from = state.from
    this.#records = state.records
    this.#bytes = state.bytes
    this.#bodyBytesLargest = state.bodyBytesLargest
    this.#markStamp = state.markStamp
  }
}
