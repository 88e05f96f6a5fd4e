/**
 * Recomputes the tier rows of one sealed bucket from its raw points, along the tree that made them, and compares (INVARIANTS 4). The
 * comparison is of bytes; where they differ, the windows are decoded and every value that differs is named.
 */
import { usPerDay, usPerMinute } from '../core/reading.js'
import type { SealedBucket, BucketRef } from '../store/raw-store.js'
import type { Store } from '../store/store.js'
import { tierKinds, tierOfKind, type TierKind, type TierRow } from '../store/tier-store.js'
import { tierClasses, tierDaysAt, type Tenant } from '../tenancy/model.js'
import { compareRows, type RowDifference } from './compare-rows.js'
import { BucketFolder } from './fold-bucket.js'
import { joinBucket } from './join-bucket.js'
import { pointsOf, sealedRowsMax } from './cut-sealed.js'

export interface Difference extends Partial<RowDifference> {
  readonly tenant: string
  readonly device: string
  /** µs */
  readonly bucketStart: number
  readonly bucketWidthMinutes: number
  readonly kind: TierKind | 'raw'
  /** µs: of the row, or of the window where one is named. */
  readonly start: number
  /** `missing`, `extra`, `values`, `points twice`, `damaged`. */
  readonly what: string
}

export interface BucketVerdict {
  /** `empty`: it has no chunks at all. `unsealed`: head chunks only. */
  readonly state: 'sealed' | 'unsealed' | 'empty'
  readonly rows: number
  readonly points: number
  readonly differences: readonly Difference[]
}

type VerifyStore = Pick<Store, 'raw' | 'tiers'>

/** A sealer at work may replace what is read in the middle: then it is read again. */
const triesMax = 5
/** A row may be gone this long before its retention ends, or stay as long: windows and times to live are coarse. */
const expirySlackUs = 31 * usPerDay

const nothing = { rows: 0, points: 0, differences: [] }

export async function verifyBucket (store: VerifyStore, tenant: Tenant, ref: BucketRef, nowUs: number): Promise<BucketVerdict> {
  for (let attempt = 1; ; attempt++) {
    const sealed = await store.raw.readSealed(ref)
    if (sealed === null) return { state: (await store.raw.listHeadSlices(ref)).length > 0 ? 'unsealed' : 'empty', ...nothing }
    const stored = await storedRows(store, tenant, ref)
    const verdict = compareBucket(tenant, ref, sealed, stored, nowUs)
    if (verdict.differences.length === 0 || attempt === triesMax) return verdict
    const now = await store.raw.readSealed(ref)
    if (now !== null && now.generation.epoch === sealed.generation.epoch && now.generation.sequence === sealed.generation.sequence && attempt > 1) return verdict
  }
}

async function storedRows (store: VerifyStore, tenant: Tenant, { device, bucket }: BucketRef): Promise<TierRow[]> {
  const rows: TierRow[] = []
  const fromTs = Math.floor(bucket.start / usPerDay) * usPerDay
  const toTs = bucket.start + bucket.widthMinutes * usPerMinute
  for (const kind of tierKinds) {
    const range = { tenant: tenant.id, device, retentionDays: tierClasses(tenant, tierOfKind(kind)) }
    for await (const row of store.tiers.scanTiers(range, kind, fromTs, toTs)) {
      if (row.bucket.start === bucket.start && row.bucket.widthMinutes === bucket.widthMinutes) rows.push(row)
    }
  }
  return rows
}

function compareBucket (tenant: Tenant, ref: BucketRef, sealed: SealedBucket, stored: readonly TierRow[], nowUs: number): BucketVerdict {
  const { device, bucket } = ref
  const differences: Difference[] = []
  const note = (kind: Difference['kind'], start: number, what: string, more: Partial<RowDifference> = {}): void => {
    differences.push({ tenant: tenant.id, device, bucketStart: bucket.start, bucketWidthMinutes: bucket.widthMinutes, kind, start, what, ...more })
  }
  const folder = new BucketFolder()
  let points = 0
  let storedPoints = 0
  const sources = sealed.chunks.map(chunk => ({ ...chunk, journalId: '' }))
  let lastTs = -Infinity
  for (const source of sources) {
    if (source.minTs <= lastTs) note('raw', source.minTs, 'chunks overlap')
    lastTs = source.maxTs
    // A chunk at a time, not joined with others: as many points as it says it has.
    for (const chunk of joinBucket([source], { erased: [], rowsMin: sealedRowsMax, onDamaged: (_, error) => { note('raw', source.minTs, `damaged: ${error.message}`) } })) storedPoints += pointsOf(chunk.columns)
  }
  for (const chunk of joinBucket(sources, { erased: [], rowsMin: 2 * sealedRowsMax, rejoin: true, onDamaged: () => {} })) {
    points += pointsOf(chunk.columns)
    folder.add(chunk)
  }
  if (points !== storedPoints) note('raw', bucket.start, 'points twice', { stored: String(storedPoints), recomputed: String(points) })
  const byName = new Map(stored.map(row => [`${row.kind}:${row.start}`, row]))
  for (const row of folder.finish()) {
    const found = byName.get(`${row.kind}:${row.start}`)
    byName.delete(`${row.kind}:${row.start}`)
    if (found !== undefined) for (const difference of compareRows(row.kind, found.bytes, row.bytes)) note(row.kind, difference.window ?? row.start, 'values', difference)
    else if (!mayBeGone(tenant, row.kind, row.start, nowUs)) note(row.kind, row.start, 'missing')
  }
  for (const { kind, start } of byName.values()) note(kind, start, 'extra')
  return { state: 'sealed', rows: stored.length, points, differences }
}

function mayBeGone (tenant: Tenant, kind: TierKind, start: number, nowUs: number): boolean {
  const days = Math.min(...tierClasses(tenant, tierOfKind(kind)), tierDaysAt(tenant, tierOfKind(kind), nowUs))
  return start + usPerDay + days * usPerDay - expirySlackUs < nowUs
}
