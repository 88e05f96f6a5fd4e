/**
 * Finds the slices among the records that recovery visits: which are closed by a mark and not packed, and what gathered
 * behind the last mark. A mark that is damaged is rebuilt from the next one, so that no record falls between two slices.
 */
import { decodeMarkBody, markBodyBytes, markRecordBytes } from './mark-record.js'
import { RecordKind, recordHeaderBytes, type SliceMark } from './record.js'
import type { RecordView } from './segment-scan.js'
import type { SliceState } from './slice-tracker.js'

export class RecoveredSlices {
  readonly marks: SliceMark[] = []
  /** Records at or after the cursor, marks not counted. */
  records = 0
  stampGreatest = 0
  readonly #cursor: number
  /** Where the slice behind the last mark begins. */
  #from: number
  #markStamp = 0
  /** Positions of the records behind the last mark; a slice's worth, or two where a mark is damaged. */
  readonly #positions: number[] = []
  #sliceBytes = 0
  #bodyBytesLargest = 0

  /** @param cursor position up to which everything is packed */
  constructor (cursor: number) {
    this.#cursor = cursor
    this.#from = cursor
  }

  /** @param position the first byte that is still there */
  begin (position: number): void {
    this.#from = Math.max(position, this.#cursor)
  }

  visit (record: RecordView, bytes: Buffer): void {
    const stampLast = record.messages > 0 ? record.stamp + record.messages - 1 : record.stamp
    if (stampLast > this.stampGreatest) this.stampGreatest = stampLast
    if (record.kind === RecordKind.mark) {
      if (record.bodyEnd - record.bodyStart === markBodyBytes) this.#mark(record, bytes)
      return
    }
    if (record.position < this.#cursor) return
    this.records++
    this.#positions.push(record.position)
    this.#sliceBytes += recordHeaderBytes + record.bodyEnd - record.identityStart
    this.#bodyBytesLargest = Math.max(this.#bodyBytesLargest, record.bodyEnd - record.bodyStart)
  }

  #mark (record: RecordView, bytes: Buffer): void {
    const { mark, previousStamp } = decodeMarkBody(bytes.subarray(record.bodyStart, record.bodyEnd), record.stamp)
    if (mark.to > this.#cursor) {
      const lostTo = mark.from - markRecordBytes
      // Its slice began behind a mark that was not read: that mark stood just before, and this one knows its stamp.
      if (lostTo > this.#from) {
        this.marks.push({ from: this.#from, to: lostTo, records: this.#positions.filter(position => position < lostTo).length, stamp: previousStamp })
      }
      this.marks.push(mark)
    }
    this.#from = Math.max(mark.to + markRecordBytes, this.#cursor)
    this.#markStamp = mark.stamp
    this.#positions.length = 0
    this.#sliceBytes = 0
    this.#bodyBytesLargest = 0
  }

  /** The slice that no mark closes. */
  tail (): SliceState {
    return { from: this.#from, records: this.#positions.length, bytes: this.#sliceBytes, bodyBytesLargest: this.#bodyBytesLargest, markStamp: this.#markStamp }
  }
}
