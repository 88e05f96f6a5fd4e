/**
 * Seals one bucket of one device (DESIGN 3.2): reads its head and sealed chunks, joins them, drops what is erased, and writes compact
 * chunks and every tier row of the bucket as one generation; the head chunks that were read go last. Runs in a worker thread.
 *
 * Why nothing is lost, whatever happens in between:
 * - The head is read before the sealed rows, and a seal writes its rows before it removes the head: a point is in one of the two.
 * - Exactly the head chunks that were read are removed, by slice and part: what lands meanwhile stays and makes the bucket dirty.
 * - All is read before the lease of the claim ends (`lease-over` otherwise). Whoever takes the claim over reads later, so it
 *   sees everything that this seal saw, in the head or in this seal's rows; its generation is higher and contains it.
 * - A slice that is repeated after its chunks were removed writes them again, the same ones; joining them once more changes
 *   nothing. So a generation names the chunks that it read itself and no older ones, and the list stays bounded.
 */
import { usPerDay, usPerMinute } from '../core/reading.js'
import { saltsToRead } from '../series/partition-plan.js'
import type { Store } from '../store/store.js'
import type { BucketRef, CoveredChunk, SealedBucket } from '../store/raw-store.js'
import { tierOfKind, type TierRow } from '../store/tier-store.js'
import type { RetentionClass } from '../store/raw-store.js'
import { retentionDaysAt, tierDaysAt, type Tenant } from '../tenancy/model.js'
import type { SealOutcome, SealResult, SealTask } from '../../workers/seal-protocol.js'
import { pointsOf, SealedCutter, sealedRowsMax } from './cut-sealed.js'
import { BucketFolder, type FoldedRow } from './fold-bucket.js'
import { joinBucket, type EncodedSource } from './join-bucket.js'

export type SealStore = Pick<Store, 'raw' | 'getTenant' | 'getPlan' | 'erasedParts'>

export interface SealTools {
  readonly store: SealStore
  /** Wall clock, µs. */
  readonly nowUs: () => number
  /** CPU of this thread as well as it can be told, ms. */
  readonly cpuMs: () => number
}

/** Clocks of two nodes differ by no more, and a read that ends just before the lease does is under way just after it elsewhere. */
const leaseMarginUs = 1e6

type Counts = Omit<SealResult, 'kind' | 'outcome' | 'cpuMs' | 'damaged'>
const nothing: Counts = { chunksIn: 0, bytesIn: 0, readings: 0, points: 0, chunksOut: 0, bytesOut: 0, tierRows: 0, tierBytes: 0 }

export async function sealBucket (task: SealTask, tools: SealTools): Promise<SealResult> {
  const startMs = tools.cpuMs()
  const result = (outcome: SealOutcome, counts: Counts = nothing, damaged: readonly string[] = []): SealResult => ({
    kind: 'seal', outcome, ...counts, damaged, cpuMs: tools.cpuMs() - startMs
  })
  const { store } = tools
  const { tenant: id, device, bucket } = task
  const tenant = await store.getTenant(id)
  if (tenant === null) return result('gone')
  if (isExpired(tenant, task)) return result('expired')
  const { plan } = await store.getPlan(id, device)
  const ref: BucketRef = { tenant: id, device, bucket, retentionDays: [...new Set(tenant.retention.map(entry => entry.days))], salts: saltsToRead(plan) }
  const erased = await store.erasedParts(id, device)
  const read = await readBucket(store, ref)
  if (read.covered.length === 0 && (!task.again || read.sealed === null)) return result('clean')
  if (tools.nowUs() > task.leaseEndUs - leaseMarginUs) return result('lease-over')

  const damaged = new DamagedChunks(read)
  const folder = new BucketFolder()
  const cutter = new SealedCutter({ squeeze: !task.growing })
  let readings = 0
  let points = 0
  for (const chunk of joinBucket(read.sources, { erased, rowsMin: 2 * sealedRowsMax, onDamaged: (source, error) => { damaged.note(source, error) } })) {
    readings += chunk.ts.length
    points += pointsOf(chunk.columns)
    folder.add(chunk)
    cutter.add(chunk)
  }
  if (damaged.head.size > 0 && damaged.head.size === read.covered.length && !task.again) return result('damaged', nothing, damaged.names)
  const chunks = [...cutter.chunks, ...damaged.sealed]
  const tiers = folder.finish().map(row => tierRow(tenant, task, row))
  await store.raw.writeSealed(ref, { retentionDays: retentionDaysAt(tenant, task.nowUs) }, {
    generation: task.generation,
    covered: read.covered.filter(chunk => !damaged.head.has(chunk)),
    chunks,
    tiers,
    ...(task.outbox === null ? {} : { outbox: { journalId: task.outbox.journalId, stream: 'seal', sequence: task.outbox.sequence } })
  })
  return result('sealed', {
    chunksIn: read.sources.length,
    bytesIn: bytesOf(read.sources),
    readings,
    points,
    chunksOut: chunks.length,
    bytesOut: bytesOf(chunks),
    tierRows: tiers.length,
    tierBytes: bytesOf(tiers)
  }, damaged.names)
}

/** The day more is that of the stores: a row may be gone as soon as its window or its time to live has run out. */
export function isExpired (tenant: Tenant, { bucket, nowUs }: Pick<SealTask, 'bucket' | 'nowUs'>): boolean {
  return bucket.start + bucket.widthMinutes * usPerMinute + (retentionDaysAt(tenant, nowUs) + 1) * usPerDay < nowUs
}

interface ReadBucket {
  /** In order of arrival: sealed chunks, then the head's by slice and part. */
  readonly sources: readonly EncodedSource[]
  /** Of the last sources, one each: the head chunks. */
  readonly covered: readonly CoveredChunk[]
  readonly sealed: SealedBucket | null
}

async function readBucket (store: SealStore, ref: BucketRef): Promise<ReadBucket> {
  const head: { readonly key: Required<CoveredChunk>, readonly source: EncodedSource }[] = []
  for await (const { slice, part, minTs, maxTs, bytes } of store.raw.scanChunks(ref, -Infinity, Infinity)) {
    head.push({ key: { ...slice, part }, source: { minTs, maxTs, bytes, journalId: slice.journalId } })
  }
  head.sort(({ key: a }, { key: b }) => a.journalId < b.journalId ? -1 : a.journalId > b.journalId ? 1 : a.mark - b.mark || a.part - b.part)
  const sealed = await store.raw.readSealed(ref)
  return {
    sources: [...(sealed?.chunks ?? []).map(chunk => ({ ...chunk, journalId: '' })), ...head.map(({ source }) => source)],
    covered: head.map(({ key }) => key),
    sealed
  }
}

/**
 * What cannot be decoded is kept as it is: a head chunk stays in the head, a sealed chunk goes into the new generation unchanged.
 * Its points are missing in the tiers as they are in every other answer, and the log names it.
 */
class DamagedChunks {
  readonly #read: ReadBucket
  readonly sealed: SealedBucket['chunks'][number][] = []
  readonly head = new Set<CoveredChunk>()
  readonly names: string[] = []

  constructor (read: ReadBucket) {
    this.#read = read
  }

  note (source: EncodedSource, error: Error): void {
    const { sources, covered } = this.#read
    const at = sources.indexOf(source) - (sources.length - covered.length)
    if (at < 0) this.sealed.push({ minTs: source.minTs, maxTs: source.maxTs, bytes: source.bytes })
    else this.head.add(covered[at])
    this.names.push(`${at < 0 ? 'a sealed chunk' : `the chunk of slice ${covered[at].journalId}:${covered[at].mark}`}: ${error.message}`)
  }
}

function tierRow (tenant: Tenant, { bucket, asOf, nowUs }: SealTask, row: FoldedRow): TierRow & RetentionClass {
  return { ...row, bucket, asOf, retentionDays: tierDaysAt(tenant, tierOfKind(row.kind), nowUs) }
}

function bytesOf (rows: readonly { readonly bytes: Uint8Array }[]): number {
  return rows.reduce((sum, { bytes }) => sum + bytes.length, 0)
}
