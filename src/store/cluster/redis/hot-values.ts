/**
 * The text form of a hot value: fixed-width event time, accept stamp and journal, by which the script in Redis decides which of
 * two is newer, then type and value. A double is its 64 bits in hex, so NaN, -0 and infinities come back as they were.
 */
import { hotStringBytesMax } from '../../../core/limits.js'
import type { Value } from '../../../core/reading.js'
import type { LatestValue } from '../../hot-state.js'

/** Columns of the text, which the script knows as well. */
export const headChars = 48
const noJournal = '-'.repeat(16)
const bits = new DataView(new ArrayBuffer(8))

function encodeValue (value: Value): string {
  if (typeof value === 'number') {
    bits.setFloat64(0, value)
    return `n${bits.getUint32(0).toString(16).padStart(8, '0')}${bits.getUint32(4).toString(16).padStart(8, '0')}`
  }
  if (typeof value === 'boolean') return value ? 'b1' : 'b0'
  // Too large to be kept: that there is a newer value is all that is said.
  return Buffer.byteLength(value) > hotStringBytesMax ? 'x' : `s${value}`
}

export function encodeHotValue ({ ts, stamp, journalId, value }: LatestValue): string {
  return String(ts).padStart(16, '0') + String(stamp).padStart(16, '0') + (journalId === '' ? noJournal : journalId) + encodeValue(value)
}

/** undefined: the value is not kept here. */
function decodeValue (text: string): Value | undefined {
  switch (text[0]) {
    case 'n':
      bits.setUint32(0, Number.parseInt(text.slice(1, 9), 16))
      bits.setUint32(4, Number.parseInt(text.slice(9, 17), 16))
      return bits.getFloat64(0)
    case 'b': return text[1] === '1'
    case 's': return text.slice(1)
    default: return undefined
  }
}

/** null: there is a value, and it is not kept here. */
export function decodeHotValue (metric: string, text: string): LatestValue | null {
  const value = decodeValue(text.slice(headChars))
  if (value === undefined) return null
  const journalId = text.slice(32, 48)
  return { metric, ts: Number(text.slice(0, 16)), stamp: Number(text.slice(16, 32)), journalId: journalId === noJournal ? '' : journalId, value }
}
