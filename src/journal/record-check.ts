/**
 * The checksums of records: what the writer puts in and the reader compares (FORMAT.md, "Checks"). The CRC32C
 * (Castagnoli, RFC 3720 appendix B.4) of a record starts from a seed made of journalId, segment base and offset, so
 * bytes that are valid elsewhere (a stale tail, a copied block, another journal) are not valid here.
 */
import { crc32c } from '@node-rs/crc32'

/** Largest length the 24 bits of a length word hold. */
export const recordLengthMax = 0xffffff

/**
 * Seed of a segment's records.
 * @param journalId 16 hex digits
 * @param segmentBase position of the segment's first byte
 */
export function segmentSeed (journalId: string, segmentBase: number): number {
  const bytes = Buffer.alloc(16)
  bytes.write(journalId, 0, 8, 'hex')
  bytes.writeDoubleLE(segmentBase, 8)
  return crc32c(bytes, 0)
}

/** Seed of the record at an offset of the segment, 32 bits. The multiplier is odd: no two offsets share a seed. */
export function recordSeed (seed: number, offset: number): number {
  return (seed + Math.imul(offset, 0x9e3779b1)) >>> 0
}

/**
 * The length in the low 24 bits and 8 check bits above. The check bits cost a multiplication, and let a reader that
 * looks for the next record after damage skip 255 of 256 false candidates without a checksum over up to 4 MiB each.
 */
export function lengthWord (length: number, seed: number): number {
  return ((Math.imul(length ^ seed, 0x85ebca6b) & 0xff000000) | length) >>> 0
}

/** The length in a word, 0 when its check bits do not fit. */
export function lengthInWord (word: number, seed: number): number {
  const length = word & 0xffffff
  return lengthWord(length, seed) === word >>> 0 ? length : 0
}
