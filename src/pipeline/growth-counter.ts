/**
 * Tells of wide buckets that are still open and to which much has come, so that the sealer takes in what is there and a reader of today
 * does not read a day of small chunks: at 64 chunks, and whenever they have doubled. Counted where chunks are written, so nobody
 * has to list the keys of open buckets. Bounded: of more buckets than it remembers the count of those left longest is forgotten; such a
 * bucket is sealed when its time is over. Counts are per thread and gone at a restart.
 */
import { LRUCache } from 'lru-cache'
import { usPerMinute } from '../core/reading.js'
import type { DeviceChunkRow } from '../store/raw-store.js'
import type { BucketName } from '../../workers/seal-protocol.js'
import { narrowMinutesMax } from './late-buckets.js'

interface Count { chunks: number, next: number }

const chunksMin = 64
const bucketsMax = 50_000

export class GrowthCounter {
  readonly #counts: LRUCache<string, Count>

  constructor (options: { readonly bucketsMax?: number } = {}) {
    this.#counts = new LRUCache({ max: options.bucketsMax ?? bucketsMax })
  }

  /** Counts chunks that were written; returns the buckets whose turn has come. */
  note (chunks: readonly Pick<DeviceChunkRow, 'tenant' | 'device' | 'bucket'>[], nowUs: number): BucketName[] {
    const grown: BucketName[] = []
    for (const { tenant, device, bucket } of chunks) {
      if (bucket.widthMinutes <= narrowMinutesMax || bucket.start + bucket.widthMinutes * usPerMinute <= nowUs) continue
      const key = `${tenant}\0${device}\0${bucket.widthMinutes}\0${bucket.start}`
      let count = this.#counts.get(key)
      if (count === undefined) this.#counts.set(key, count = { chunks: 0, next: chunksMin })
      if (++count.chunks < count.next) continue
      count.next = 2 * count.chunks
      grown.push({ tenant, device, bucket })
    }
    return grown
  }
}
