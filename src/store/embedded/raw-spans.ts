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
import { keysWithJumps } from './scan.js'
import { rawWindowEnd } from './windows.js'

export async function listHeadSpans (pool: DatabasePool, range: DeviceRange, fromTs: number, toTs: number): Promise<HeadSpan[]> {
  fromTs = Math.max(0, fromTs)
  toTs = Math.min(timestampUsMax, toTs)
  if (fromTs >= toTs) return []
  const windows = (await pool.windows.list(rawName, range.retentionDays))
    .filter(({ retentionDays, start }) => start < toTs && rawWindowEnd(retentionDays, start) > fromTs)
  const found = await inParallel(windows, async ({ path }) => await pool.read(path, [], async database => await spansIn(database, range, fromTs, toTs)))
  return found.flat()
}

async function spansIn (database: Database, { tenant, device }: DeviceRange, fromTs: number, toTs: number): Promise<HeadSpan[]> {
  const spans: HeadSpan[] = []
  const jump = (key: Buffer): Buffer | null => {
    const next = nextBucket(chunkBucket(key), fromTs, toTs)
    return next === null ? null : devicePrefix(tenant, device, next)
  }
  for await (const key of keysWithJumps(database, rangeOf(devicePrefix(tenant, device)), jump)) {
    const { minTs, maxTs, slice } = chunkTail(key)
    if (maxTs >= fromTs && minTs < toTs) spans.push({ bucket: chunkBucket(key), slice, minTs, maxTs })
  }
  return spans
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
