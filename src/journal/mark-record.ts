/**
 * The body of a mark record (FORMAT.md). A mark also says where the mark before it began, so that one damaged mark is
 * rebuilt from the next and its slice keeps its bounds.
 */
import { recordHeaderBytes, type SliceMark } from './record.js'

export const markBodyBytes = 40
/** A mark record has no identity: its size is fixed, so a mark's end tells its position. */
export const markRecordBytes = recordHeaderBytes + markBodyBytes

/** Where the previous mark's slice began, its records, and its stamp; zeros where there is none. */
export interface PreviousMark {
  readonly from: number
  readonly records: number
  readonly stamp: number
}

export function encodeMarkBody (mark: SliceMark, previous: PreviousMark): Buffer {
  const body = Buffer.allocUnsafe(markBodyBytes)
  body.writeDoubleLE(mark.from, 0)
  body.writeDoubleLE(mark.to, 8)
  body.writeUInt32LE(mark.records, 16)
  body.writeUInt32LE(previous.records, 20)
  body.writeDoubleLE(previous.from, 24)
  body.writeDoubleLE(previous.stamp, 32)
  return body
}

/** @param stamp the stamp of the mark record */
export function decodeMarkBody (body: Buffer, stamp: number): { mark: SliceMark, previous: PreviousMark } {
  return {
    mark: { from: body.readDoubleLE(0), to: body.readDoubleLE(8), records: body.readUInt32LE(16), stamp },
    previous: { from: body.readDoubleLE(24), records: body.readUInt32LE(20), stamp: body.readDoubleLE(32) }
  }
}
