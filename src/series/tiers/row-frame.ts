/** The two bytes that begin every row of tiers or sketches, and the general compressor around its body where that pays. FORMAT.md, "Row". */
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { TwinfoldError } from '../../core/errors.js'
import { usPerHour } from '../../core/reading.js'
import { corrupt } from '../columns/bounds.js'
import { ByteReader, ByteWriter } from '../columns/bytes.js'
import type { EncodeSettings, Layout } from '../columns/sequence.js'

export const tierFormatVersion = 1

/** What a row holds: low bits of its second byte. */
export const RowKind = { windows: 0, sketches: 1 } as const
const isSqueezed = 128

/** A body is inflated to at most this. */
const bodyBytesMax = 64 * 1024 * 1024
/** Compression must save an eighth, or reading it back is not worth the time. */
const squeezeKeepsAt = 7 / 8

const settingsOf = (layout: Layout): EncodeSettings => ({ layout, seekable: false })

/** Of large rows of windows with so many packed bytes a window the compressor is worth a try: nearly empty columns, or doubles. Between them lies what is packed well. */
const squeezableBelow = 2
const squeezableFrom = 30
const largeBytes = 2048

/**
 * Rows of hours and days are read by the hundred for one metric of many: inflating them would cost more than all the rest, and stores
 * compress what neighbouring rows have in common.
 */
const squeezedBelowUs = usPerHour

/**
 * A row of `windows` windows in all, of `widthUs` µs each, from a body that is written in packed blocks, and where it may pay as varints
 * for the compressor.
 */
export function writeRow (kind: number, windows: number, widthUs: number, writeBody: (writer: ByteWriter, settings: EncodeSettings) => void): Uint8Array {
  const packed = new ByteWriter(1024)
  packed.byte(tierFormatVersion)
  packed.byte(kind)
  writeBody(packed, settingsOf('blocks'))
  if (widthUs >= squeezedBelowUs) return packed.take()
  const perWindow = packed.length / windows
  if (packed.length > largeBytes && perWindow > squeezableBelow && perWindow < squeezableFrom) return packed.take()
  const body = new ByteWriter(packed.length * 2)
  writeBody(body, settingsOf('varints'))
  if (body.length > bodyBytesMax) return packed.take()
  const deflated = deflateRawSync(body.bytes.subarray(0, body.length), { level: 6, memLevel: 9 })
  const squeezed = new ByteWriter(deflated.length + 16)
  squeezed.byte(tierFormatVersion)
  squeezed.byte(kind | isSqueezed)
  squeezed.varint(body.length)
  squeezed.raw(deflated)
  return squeezed.length < packed.length * squeezeKeepsAt ? squeezed.take() : packed.take()
}

/** The body of a row of the kind. Throws `format_newer`, or `corrupt_data`. */
export function openRow (bytes: Uint8Array, kind: number): { reader: ByteReader, squeezed: boolean } {
  const outer = new ByteReader(bytes)
  const version = outer.byte()
  if (version > tierFormatVersion) throw new TwinfoldError('format_newer', `tier format ${version}; this version reads up to ${tierFormatVersion}`)
  if (version === 0) throw corrupt('tier format 0')
  const flags = outer.byte()
  if ((flags & ~isSqueezed) !== kind) throw corrupt(`a row of kind ${flags} where ${kind} belongs`)
  if ((flags & isSqueezed) === 0) return { reader: outer, squeezed: false }
  const length = outer.varint()
  if (length > bodyBytesMax) throw corrupt(`a body of ${length} bytes`)
  let body: Buffer
  try {
    body = inflateRawSync(bytes.subarray(outer.at), { maxOutputLength: Math.max(1, length) })
  } catch (error) {
    throw new TwinfoldError('corrupt_data', 'the body of a row cannot be inflated', { cause: error })
  }
  if (body.length !== length) throw corrupt(`a body of ${body.length} bytes instead of ${length}`)
  return { reader: new ByteReader(body), squeezed: true }
}
