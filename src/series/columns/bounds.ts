/**
 * What a chunk may hold, so that a damaged count can ask for a bounded amount of memory only, and the faults that
 * readers of stored bytes report. Writers keep the same bounds.
 */
import { TwinfoldError } from '../../core/errors.js'

/** Rows in one chunk: more than a day of one-second readings. */
export const chunkRowsMax = 2 ** 17
/** Values in all columns of a chunk together, or of those that a reader asked for (32 MiB of doubles). */
export const chunkPointsMax = 2 ** 22
/** Bytes of a squeezed body after inflation. A larger body is stored unsqueezed. */
export const squeezedBodyBytesMax = 64 * 1024 * 1024
/** Devices in one slab; a device has at least one row. */
export const slabDevicesMax = chunkRowsMax

/** A fault for bytes that no writer of this format produced. */
export function corrupt (detail: string): TwinfoldError {
  return new TwinfoldError('corrupt_data', detail)
}

/** A fault for a chunk that is too large to be written; the caller splits it. */
export function tooLarge (detail: string): TwinfoldError {
  return new TwinfoldError('limit_reached', detail)
}
