/**
 * Where a device's head chunks lie (`RawStore.listHeadSpans`): keys alone. Most devices have none in most windows, which is one look
 * at one key; from a bucket that is out of the range the iterator jumps to the next that may be in it.
 */
import { inParallel } from '../../core/in-parallel.js'
import { usPerMinute } from '../../core/reading.js'
import { timestampUsMax } from '../../core/limits.js'
import { bucketWidthsMinutes, type Bucket, type BucketWidthMinutes } from '../../series/partition-plan.js'
import type { DeviceRange, HeadSpan } from '../raw-store.js'
import type { DatabasePool } from './database-pool.js'
import { rawName } from './filenames.js'
import { rangeOf } from './key-bytes.js'
import { chunkBucket, chunkTail, devicePrefix } from './keys.js'
import type { Database } from './level.js'
import { listWindows } from './raw-files.js'
import { rawWindowEnd } from './windows.js'

/** Keys that are asked for at first, and at most, in one call to LevelDB. */
const keysFirst = 4
const keysMax = 1000

export async function listHeadSpans (pool: DatabasePool, directory: string, range: DeviceRange, fromTs: number, toTs: number): Promise<HeadSpan[]> {
  fromTs = Math.max(0, fromTs)
  toTs = Math.min(timestampUsMax, toTs)
  if (fromTs >= toTs) return []
  const windows = (await listWindows(directory, rawName, range.retentionDays))
    .filter(({ retentionDays, start }) => start < toTs && rawWindowEnd(retentionDays, start) > fromTs)
  const found = await inParallel(windows, async ({ path }) => await pool.read(path, [], async database => await spansIn(database, range, fromTs, toTs)))
  return found.flat()
}

async function spansIn (database: Database, { tenant, device }: DeviceRange, fromTs: number, toTs: number): Promise<HeadSpan[]> {
  const spans: HeadSpan[] = []
  const iterator = database.keys(rangeOf(devicePrefix(tenant, device)))
  try {
    for (let count = keysFirst; ;) {
      const keys = await iterator.nextv(count) as Buffer[]
      count = Math.min(keysMax, count * 4)
      let next: Bucket | null = null
      for (const key of keys) {
        const bucket = chunkBucket(key)
        next = nextBucket(bucket, fromTs, toTs)
        if (next !== null) break
        const { minTs, maxTs, slice } = chunkTail(key)
        if (maxTs >= fromTs && minTs < toTs) spans.push({ bucket, slice, minTs, maxTs })
      }
      if (next !== null) {
        iterator.seek(devicePrefix(tenant, device, next))
        count = keysFirst
      } else if (keys.length === 0) {
        return spans
      }
    }
  } finally {
    await iterator.close()
  }
}

/** The first bucket from which on to look where this one is out of the range; null where it is in it. Buckets stand by width, then start. */
function nextBucket ({ widthMinutes, start }: Bucket, fromTs: number, toTs: number): Bucket | null {
  const widthUs = widthMinutes * usPerMinute
  if (start + widthUs <= fromTs) return { widthMinutes, start: Math.floor(fromTs / widthUs) * widthUs }
  if (start < toTs) return null
  const wider = bucketWidthsMinutes.find(width => width > widthMinutes)
  // Behind the widest there is none: a start beyond every time ends the scan.
  return wider === undefined ? { widthMinutes, start: timestampUsMax } : { widthMinutes: wider, start: floorTo(fromTs, wider) }
}

function floorTo (ts: number, widthMinutes: BucketWidthMinutes): number {
  const widthUs = widthMinutes * usPerMinute
  return Math.floor(ts / widthUs) * widthUs
}
