/**
 * The pieces that keys are made of: ASCII text with a terminator, and big-endian numbers, so that the order of the
 * bytes is the order of the values. A text never holds the terminator, so no id is a prefix of another's range
 * (INVARIANTS 7: `a` and `ab` are as far apart as any two tenants).
 */
import { TwinfoldError } from '../../core/errors.js'
import { timestampUsMax } from '../../core/limits.js'

export const timeBytes = 7
const uint32 = 0x1_0000_0000

/** Writes the text and its terminator; returns the offset behind them. `invalid_request` for anything but printable ASCII. */
export function writeText (key: Buffer, at: number, text: string): number {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code < 0x20 || code > 0x7e) throw new TwinfoldError('invalid_request', 'an id has characters that are not allowed')
    key[at++] = code
  }
  key[at] = 0
  return at + 1
}

/** Offset behind the terminator of the text that begins at `at`. */
export function skipText (key: Buffer, at: number): number {
  return key.indexOf(0, at) + 1
}

/** The text between `at` and its terminator at `end - 1`. */
export function readText (key: Buffer, at: number, end: number): string {
  return key.toString('latin1', at, end - 1)
}

/** A whole number from 0 to `timestampUsMax`, 7 bytes. */
export function writeTime (key: Buffer, at: number, value: number): number {
  const high = Math.floor(value / uint32)
  key[at] = high >>> 16
  key[at + 1] = high >>> 8
  key[at + 2] = high
  key[at + 3] = value / 0x100_0000
  key[at + 4] = value / 0x1_0000
  key[at + 5] = value / 0x100
  key[at + 6] = value
  return at + timeBytes
}

export function readTime (key: Buffer, at: number): number {
  return ((key[at] << 16) | (key[at + 1] << 8) | key[at + 2]) * uint32 +
    (((key[at + 3] << 24) | (key[at + 4] << 16) | (key[at + 5] << 8) | key[at + 6]) >>> 0)
}

/** Descending: the greatest value comes first. */
export function writeTimeDescending (key: Buffer, at: number, value: number): number {
  return writeTime(key, at, timestampUsMax - value)
}

export function readTimeDescending (key: Buffer, at: number): number {
  return timestampUsMax - readTime(key, at)
}

/** 16 hex digits as 8 bytes. `invalid_request` for another text. */
export function writeJournalId (key: Buffer, at: number, journalId: string): number {
  for (let i = 0; i < 16; i += 2) {
    const high = hexDigit(journalId.charCodeAt(i))
    const low = hexDigit(journalId.charCodeAt(i + 1))
    if (high < 0 || low < 0 || journalId.length !== 16) throw new TwinfoldError('invalid_request', 'a journal id has 16 hex digits')
    key[at++] = high << 4 | low
  }
  return at
}

function hexDigit (code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30
  if (code >= 0x61 && code <= 0x66) return code - 0x57
  return -1
}

export function readJournalId (key: Buffer, at: number): string {
  return key.toString('hex', at, at + 8)
}

/** The least key above every key that begins with `prefix`, which must not be all 0xff. */
export function after (prefix: Buffer): Buffer {
  let length = prefix.length
  while (prefix[length - 1] === 0xff) length--
  const end = Buffer.from(prefix.subarray(0, length))
  end[length - 1]++
  return end
}

/** The range of all keys that begin with `prefix`. */
export function rangeOf (prefix: Buffer): { gte: Buffer, lt: Buffer } {
  return { gte: prefix, lt: after(prefix) }
}
