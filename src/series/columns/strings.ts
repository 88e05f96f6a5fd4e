/** The values of a string column: a dictionary in order of first use, and an index for every value. FORMAT.md, "Strings". */
import { corrupt } from './bounds.js'
import type { ByteReader, ByteWriter } from './bytes.js'
import { readIntegers, writeIntegers, type DecodeState, type EncodeScratch, type EncodeSettings } from './sequence.js'

/** How a dictionary's characters are stored: the first that can hold them all. UTF-16 keeps lone surrogates. */
const encodings = ['latin1', 'utf8', 'utf16le'] as const

const latin1Only = /^[\x00-\xff]*$/
const loneSurrogate = /\p{Surrogate}/u

/** Writes the first `count` values, at least one. */
export function writeStrings (writer: ByteWriter, scratch: EncodeScratch, values: readonly string[], count: number, settings: EncodeSettings): void {
  const indexByText = new Map<string, number>()
  const indexes = new Float64Array(count)
  for (let i = 0; i < count; i++) {
    const text = values[i]
    if (i > 0 && text === values[i - 1]) {
      indexes[i] = indexes[i - 1]
      continue
    }
    let index = indexByText.get(text)
    if (index === undefined) indexByText.set(text, index = indexByText.size)
    indexes[i] = index
  }
  const texts = [...indexByText.keys()]
  const blob = texts.join('')
  const encoding = latin1Only.test(blob) ? 0 : texts.some(text => loneSurrogate.test(text)) ? 2 : 1
  writer.varint(texts.length)
  for (let i = 0; i < texts.length; i++) scratch.integers[i] = texts[i].length
  writeIntegers(writer, scratch, texts.length, settings)
  const bytes = Buffer.from(blob, encodings[encoding])
  writer.byte(encoding)
  writer.varint(bytes.length)
  writer.raw(bytes)
  if (texts.length === 1) return
  scratch.integers.set(indexes)
  writeIntegers(writer, scratch, count, settings)
}

/** Reads values `from` to `to` of `count` (at least one). */
export function readStrings (reader: ByteReader, count: number, from: number, to: number, state: DecodeState): string[] {
  const size = reader.varint()
  if (size === 0 || size > count) throw corrupt(`dictionary of ${size} for ${count} values at byte ${reader.at}`)
  const lengths = new Float64Array(size)
  readIntegers(reader, size, 0, size, state, lengths)
  const encoding = reader.byte()
  if (encoding >= encodings.length) throw corrupt(`unknown encoding ${encoding} at byte ${reader.at}`)
  const bytes = reader.varint()
  const at = reader.skip(bytes)
  const blob = Buffer.from(reader.bytes.buffer, reader.bytes.byteOffset + at, bytes).toString(encodings[encoding])
  const texts: string[] = []
  let start = 0
  for (let i = 0; i < size; i++) {
    const length = lengths[i]
    if (!(length >= 0) || start + length > blob.length) throw corrupt(`dictionary is shorter than its lengths at byte ${reader.at}`)
    texts.push(blob.slice(start, start + length))
    start += length
  }
  if (start !== blob.length) throw corrupt(`dictionary is longer than its lengths at byte ${reader.at}`)
  const values = new Array<string>(to - from)
  if (size === 1) return values.fill(texts[0])
  const indexes = new Float64Array(to - from)
  readIntegers(reader, count, from, to, state, indexes)
  for (let i = 0; i < values.length; i++) {
    const text = texts[indexes[i]]
    if (text === undefined) throw corrupt(`index outside the dictionary at byte ${reader.at}`)
    values[i] = text
  }
  return values
}
