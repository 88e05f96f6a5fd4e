/**
 * Where a stream of events is, as the text that a client gives back in Last-Event-ID: a position for each lane, and when it was. Packed,
 * since it goes out with every write; it says nothing that its reader may not know, and gives access to nothing.
 */
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { TwinfoldError } from '../core/errors.js'
import { eventLanes } from '../store/event-log.js'

export interface StreamPosition {
  /** Wall clock, ms. */
  readonly atMs: number
  /** By lane; lanes that the stream does not read have none. */
  readonly lanes: ReadonlyMap<number, string>
}

/** Longest Last-Event-ID that is read. */
export const lastEventIdCharsMax = 2048
const unpackedBytesMax = 16 * 1024
const positionCharsMax = 256

export function encodePosition ({ atMs, lanes }: StreamPosition): string {
  // Positions of different lanes are alike: what they share is told once.
  return `e1${deflateRawSync(JSON.stringify([Math.floor(atMs), [...lanes]])).toString('base64url')}`
}

/** @throws TwinfoldError `invalid_field` (field `Last-Event-ID`) where it is none of ours */
export function decodePosition (text: string): StreamPosition {
  try {
    if (text.length > lastEventIdCharsMax || !/^e1[A-Za-z0-9_-]+$/.test(text)) throw new Error('form')
    const [atMs, entries] = JSON.parse(inflateRawSync(Buffer.from(text.slice(2), 'base64url'), { maxOutputLength: unpackedBytesMax }).toString()) as [unknown, unknown]
    if (typeof atMs !== 'number' || !Array.isArray(entries)) throw new Error('content')
    const lanes = new Map<number, string>()
    for (const [lane, position] of entries as [unknown, unknown][]) {
      if (typeof lane !== 'number' || !Number.isInteger(lane) || lane < 0 || lane >= eventLanes || typeof position !== 'string' || position.length > positionCharsMax) throw new Error('lane')
      lanes.set(lane, position)
    }
    return { atMs, lanes }
  } catch (error) {
    throw new TwinfoldError('invalid_field', `'Last-Event-ID' is none that this server gave out; leave it out`, { field: 'Last-Event-ID', cause: error })
  }
}
