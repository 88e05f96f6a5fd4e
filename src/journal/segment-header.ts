/**
 * The first 64 bytes of a segment (FORMAT.md). Every later version keeps magic, version and the CRC where they are, so
 * that a newer segment is told from a damaged one.
 */
import { crc32c } from '@node-rs/crc32'
import { TwinfoldError } from '../core/errors.js'

export const segmentHeaderBytes = 64
/** Version of the format that this code writes, and the newest that it reads. */
export const formatVersion = 1

const magic = Buffer.from('TWFJRNL\n', 'latin1')
const crcAt = 60

export interface SegmentHeader {
  readonly journalId: string
  /** Position of the header's first byte in the journal. */
  readonly base: number
  /** Wall clock at creation, µs. */
  readonly createdAt: number
  /** No stamp given out before the creation is greater, µs. */
  readonly stampFloor: number
  /** Position after the last record of the segments before this one; what a file holds beyond it is not part of the journal. */
  readonly previousEnd: number
}

export function encodeSegmentHeader (header: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(segmentHeaderBytes)
  magic.copy(bytes)
  bytes.writeUInt32LE(formatVersion, 8)
  bytes.writeUInt32LE(segmentHeaderBytes, 12)
  bytes.write(header.journalId, 16, 8, 'hex')
  bytes.writeDoubleLE(header.base, 24)
  bytes.writeDoubleLE(header.createdAt, 32)
  bytes.writeDoubleLE(header.stampFloor, 40)
  bytes.writeDoubleLE(header.previousEnd, 48)
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, crcAt), 0), crcAt)
  return bytes
}

/**
 * The header at the start of `bytes`; null when it is damaged or cut short.
 * @throws TwinfoldError `format_newer` naming the file and both versions.
 */
export function decodeSegmentHeader (bytes: Buffer, path: string): SegmentHeader | null {
  if (bytes.length < segmentHeaderBytes || !bytes.subarray(0, 8).equals(magic)) return null
  if (bytes.readUInt32LE(crcAt) !== crc32c(bytes.subarray(0, crcAt), 0)) return null
  const version = bytes.readUInt32LE(8)
  if (version > formatVersion) {
    throw new TwinfoldError('format_newer', `${path} has journal format ${version}; this version of Twinfold reads up to ${formatVersion}`)
  }
  return {
    journalId: bytes.toString('hex', 16, 24),
    base: bytes.readDoubleLE(24),
    createdAt: bytes.readDoubleLE(32),
    stampFloor: bytes.readDoubleLE(40),
    previousEnd: bytes.readDoubleLE(48)
  }
}
