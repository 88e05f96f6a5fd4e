/**
 * Unsigned integers of a fixed width in bits, lowest bit first, without a header. What is wider than 24 bits is laid
 * down in planes: the low 24 bits of all values as three bytes each, then the next 24, and the rest packed by bits.
 * So no step needs more than 32-bit arithmetic.
 */
const planeBits = 24
const planeFactor = 2 ** planeBits

/** Bytes that `count` values of `width` bits take. */
export function packedBytes (count: number, width: number): number {
  const planes = width === 0 ? 0 : Math.floor((width - 1) / planeBits)
  return planes * 3 * count + ((count * (width - planes * planeBits) + 7) >>> 3)
}

/** Packs the low `width` bits (0 to 53) of the first `count` values at `at`, where there is room; returns the end. */
export function packBits (bytes: Uint8Array, at: number, values: Float64Array, count: number, width: number): number {
  let rest = width
  let factor = 1
  while (rest > planeBits) {
    for (let i = 0; i < count; i++) {
      const low = values[i] / factor
      bytes[at] = low
      bytes[at + 1] = low >>> 8
      bytes[at + 2] = low >>> 16
      at += 3
    }
    factor *= planeFactor
    rest -= planeBits
  }
  const mask = (1 << rest) - 1
  let held = 0
  let fill = 0
  for (let i = 0; i < count; i++) {
    held |= ((factor === 1 ? values[i] : values[i] / factor) & mask) << fill
    fill += rest
    while (fill >= 8) {
      bytes[at++] = held
      held >>>= 8
      fill -= 8
    }
  }
  if (fill > 0) bytes[at++] = held
  return at
}

/** Reads `count` values of `width` bits (0 to 53) into `out` from `outAt`. The caller has checked that the bytes are there. */
export function unpackBits (bytes: Uint8Array, at: number, count: number, width: number, out: Float64Array, outAt: number): void {
  let rest = width
  let factor = 1
  while (rest > planeBits) {
    for (let i = 0; i < count; i++) {
      const part = bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16
      if (factor === 1) out[outAt + i] = part
      else out[outAt + i] += part * factor
      at += 3
    }
    factor *= planeFactor
    rest -= planeBits
  }
  const mask = (1 << rest) - 1
  let held = 0
  let fill = 0
  for (let i = 0; i < count; i++) {
    while (fill < rest) {
      held |= bytes[at++] << fill
      fill += 8
    }
    const part = held & mask
    if (factor === 1) out[outAt + i] = part
    else out[outAt + i] += part * factor
    held >>>= rest
    fill -= rest
  }
}
