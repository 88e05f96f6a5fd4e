/**
 * The idempotency keys of records that are in the journal and not in the store yet: what a start must know before it
 * takes requests (DESIGN 2, promise 3).
 */
import type { SegmentRef } from './journal-types.js'
import { decodeIdentity, RecordKind } from './record.js'
import { readSlice, scanRecords } from './segment-scan.js'

export interface RecoveredKey {
  readonly tenant: string
  readonly key: string
  readonly fingerprint: string
  /** Accept stamp of the request, µs. */
  readonly stamp: number
}

/** Keys of the records in [from, to), in order; reads one segment at a time. Damage is passed over: recovery reported it. */
export function * keysIn (segments: readonly SegmentRef[], from: number, to: number, journalId: string): Generator<RecoveredKey> {
  for (const piece of readSlice(segments, from, to)) {
    const keys: RecoveredKey[] = []
    const { buffer } = piece
    scanRecords(buffer, piece.base, piece.from, piece.to, journalId, record => {
      if (record.kind === RecordKind.mark || !hasKey(buffer, record.identityStart, record.identityEnd)) return
      const { tenant, idempotencyKey, fingerprint } = decodeIdentity(buffer.subarray(record.identityStart, record.identityEnd))
      keys.push({ tenant, key: idempotencyKey, fingerprint, stamp: record.stamp })
    }, piece.segmentBase)
    yield * keys
  }
}

/** Looks at the length byte of the third text of an identity; most records have no key. */
function hasKey (buffer: Buffer, from: number, to: number): boolean {
  let at = from
  for (let i = 0; i < 2 && at < to; i++) at += 1 + buffer[at]
  return at < to && buffer[at] !== 0
}
