/**
 * Turns the slabs of sparse devices into chunks per device (DESIGN 3.2), so that a reader of one device does not read its
 * shard's slabs of all time. Runs in a worker thread. Merged chunks keep every point's accept stamp and carry the id of the
 * newest slice they contain; a merge that is repeated after a crash finds the slabs again or finds them gone.
 */
import { usPerDay, usPerMinute, type Chunk } from '../core/reading.js'
import { decodeSlab, encodeChunk } from '../series/codec.js'
import { mergeChunks } from '../series/merge.js'
import { bucketOf, saltFor, type PartitionPlan } from '../series/partition-plan.js'
import type { DeviceChunkRow, RetentionClass, SeriesSeenRow, SlabRow } from '../store/raw-store.js'
import type { Store } from '../store/store.js'
import type { MergeResult, MergeTask } from '../../workers/protocol.js'

type StoredSlab = SlabRow & RetentionClass

/** `part` of merged rows: apart from the parts that packing gives out. */
const mergedPart = 1_000_000

export async function mergeSlabs (store: Store, task: MergeTask, monotonicMs: () => number): Promise<MergeResult> {
  const start = monotonicMs()
  const result = { slabs: 0, chunkRows: 0, readings: 0 }
  let group: StoredSlab[] = []
  const flush = async (): Promise<void> => {
    if (group.length === 0) return
    const { rows, readings } = await mergeGroup(store, group)
    const seen: (SeriesSeenRow & RetentionClass)[] = []
    await store.raw.replaceSlabs(group, { chunks: rows, slabs: [], seen })
    result.slabs += group.length
    result.chunkRows += rows.length
    result.readings += readings
    group = []
  }
  for await (const slab of store.raw.scanSlabsToMerge({ journalId: task.journalId, mark: task.before }, task.slabsMax)) {
    if (group.length > 0 && !sameGroup(group[0], slab)) await flush()
    group.push(slab)
  }
  await flush()
  return { ...result, cpuMs: monotonicMs() - start }
}

/** One shard's slabs of one journal and day go together: enough readings per chunk, little memory. */
function sameGroup (a: StoredSlab, b: StoredSlab): boolean {
  return a.tenant === b.tenant && a.shard === b.shard && a.slice.journalId === b.slice.journalId &&
    a.retentionDays === b.retentionDays && Math.floor(a.minute / usPerDay) === Math.floor(b.minute / usPerDay)
}

async function mergeGroup (store: Store, slabs: readonly StoredSlab[]): Promise<{ rows: (DeviceChunkRow & RetentionClass)[], readings: number }> {
  const { tenant, retentionDays } = slabs[0]
  const { journalId } = slabs[0].slice
  const mark = Math.max(...slabs.map(slab => slab.slice.mark))
  const byDevice = new Map<string, Chunk[]>()
  for (const slab of slabs) {
    for (const { device, chunk } of decodeSlab(slab.bytes)) {
      const list = byDevice.get(device)
      if (list === undefined) byDevice.set(device, [chunk])
      else list.push(chunk)
    }
  }
  const rows: (DeviceChunkRow & RetentionClass)[] = []
  let readings = 0
  for (const [device, chunks] of byDevice) {
    const { plan } = await store.getPlan(tenant, device)
    const slice = { journalId, mark }
    for (const { bucket, chunk } of splitByBucket(plan, chunks, journalId)) {
      readings += chunk.ts.length
      rows.push({
        tenant, device, bucket, slice, retentionDays, part: mergedPart, salt: saltFor(plan, slice, chunk.stamps[0]),
        minTs: chunk.ts[0], maxTs: chunk.ts[chunk.ts.length - 1], bytes: encodeChunk(chunk, { squeeze: true })
      })
    }
  }
  return { rows, readings }
}

function splitByBucket (plan: PartitionPlan, chunks: readonly Chunk[], journalId: string): { bucket: ReturnType<typeof bucketOf>, chunk: Chunk }[] {
  const sources = chunks.map(chunk => ({ chunk, journalId }))
  const everything = { erasedBefore: 0, oldestTs: 0 }
  const whole = mergeChunks(sources, { ...everything, fromTs: -Infinity, toTs: Infinity })
  const parts: { bucket: ReturnType<typeof bucketOf>, chunk: Chunk }[] = []
  let at = 0
  while (at < whole.ts.length) {
    const bucket = bucketOf(plan, whole.ts[at])
    const bucketEnd = bucket.start + bucket.widthMinutes * usPerMinute
    let next = at + 1
    while (next < whole.ts.length && whole.ts[next] < bucketEnd && bucketOf(plan, whole.ts[next]).widthMinutes === bucket.widthMinutes) next++
    if (at === 0 && next === whole.ts.length) return [{ bucket, chunk: whole }]
    parts.push({ bucket, chunk: mergeChunks([{ chunk: whole, journalId }], { ...everything, fromTs: whole.ts[at], toTs: next < whole.ts.length ? whole.ts[next] : Infinity }) })
    at = next
  }
  return parts
}
