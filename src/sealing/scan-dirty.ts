/**
 * Finds past buckets with head chunks, shard by shard, for the sealer's sweep. Runs in a worker thread. Cost: a key for every head chunk
 * of past buckets, which are few, and one jump for every open bucket, whatever it holds.
 */
import { usPerMinute } from '../core/reading.js'
import type { RawStore } from '../store/raw-store.js'
import type { DirtyBucket, ScanResult, ScanTask } from '../../workers/seal-protocol.js'

export interface ScanTools {
  readonly raw: Pick<RawStore, 'scanDirty'>
  readonly monotonicMs: () => number
  readonly cpuMs: () => number
}

export async function scanDirty (task: ScanTask, { raw, monotonicMs, cpuMs }: ScanTools): Promise<ScanResult> {
  const startCpuMs = cpuMs()
  const endMs = monotonicMs() + task.timeMs
  const buckets: DirtyBucket[] = []
  let shardsDone = 0
  let more = false
  for (const shard of task.shards) {
    more = await scanShard(task, shard, raw, buckets)
    shardsDone++
    if (more || monotonicMs() >= endMs) break
  }
  return { kind: 'scan', buckets, shardsDone, more, cpuMs: cpuMs() - startCpuMs }
}

/** Slices of one bucket follow one another. Returns whether there were more buckets than may be named. */
async function scanShard ({ tenant, retentionDays, bucketsMax, endBefore }: ScanTask, shard: number, raw: ScanTools['raw'], buckets: DirtyBucket[]): Promise<boolean> {
  let last: { device: string, bucket: DirtyBucket['bucket'], slices: number } | null = null
  const add = (): void => { if (last !== null) buckets.push({ tenant, ...last }) }
  const wanted = ({ start, widthMinutes }: DirtyBucket['bucket']): boolean => start + widthMinutes * usPerMinute <= endBefore
  for await (const { device, bucket } of raw.scanDirty(tenant, shard, retentionDays, wanted)) {
    if (last !== null && last.device === device && last.bucket.start === bucket.start && last.bucket.widthMinutes === bucket.widthMinutes) {
      last.slices++
      continue
    }
    add()
    last = { device, bucket, slices: 1 }
    if (buckets.length >= bucketsMax) return true
  }
  add()
  return false
}
