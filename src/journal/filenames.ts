/**
 * Every on-disk name of the journal. A segment's name carries what its records' checksums need (journalId and base),
 * so that a segment whose header is damaged can still be read.
 */

/** Hex digits of a position in a file name: 56 bits, more than the 53 bits a position has. */
const baseDigits = 14
const segmentPattern = /^([0-9a-f]{16})-([0-9a-f]{14})\.segment$/

/** The note of an adoption (adoption.ts), and the one that is being written. */
export const adoptionFileName = 'adopted.json'
export const adoptionFileNames: readonly string[] = [adoptionFileName, `${adoptionFileName}.new`]

/** `<journalId>-<base>.segment`, both in lower-case hex; names of one journal sort by position. */
export function segmentFileName (journalId: string, base: number): string {
  return `${journalId}-${base.toString(16).padStart(baseDigits, '0')}.segment`
}

/** What a segment's name says; null for any other name. */
export function parseSegmentFileName (name: string): { journalId: string, base: number } | null {
  const match = segmentPattern.exec(name)
  if (match === null) return null
  const base = Number.parseInt(match[2], 16)
  return Number.isSafeInteger(base) ? { journalId: match[1], base } : null
}
