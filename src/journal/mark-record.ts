/**
 * The body of a mark record (FORMAT.md). A mark also carries the stamp of the mark before it, so that one damaged mark is
 * rebuilt from the next and its slice keeps its bounds and its stamp.
 */
import { recordHeaderBytes, type SliceMark } from './record.js'

export const markBodyBytes = 32
/** A mark record has no identity: its size is fixed, so a mark's end tells its position. */
export const markRecordBytes = recordHeaderBytes + markBodyBytes

/** @param previousStamp stamp of the mark before, 0 where there is none */
export function encodeMarkBody (mark: SliceMark, previousStamp: number): Buffer {
  const body = Buffer.alloc(markBodyBytes)
  body.writeDoubleLE(mark.from, 0)
  body.writeDoubleLE(mark.to, 8)
  body.writeDoubleLE(previousStamp, 16)
  body.writeUInt32LE(mark.records, 24)
  return body
}

/** @param stamp the stamp of the mark record */
export function decodeMarkBody (body: Buffer, stamp: number): { mark: SliceMark, previousStamp: number } {
  return {
    mark: { from: body.readDoubleLE(0), to: body.readDoubleLE(8), records: body.readUInt32LE(24), stamp },
    previousStamp: body.readDoubleLE(16)
  }
}
