/**
 * Where a head chunk went that the outbox names and that is gone: into a sealed bucket, or out of retention. A seal writes its
 * rows before it removes the head rows that they cover, so a chunk that was missing before the sealed bucket was read is in it or has
 * expired.
 */
import type { SliceId } from '../core/reading.js'
import { saltsToRead } from '../series/partition-plan.js'
import type { DeviceChunkRow, SealedBucket } from '../store/raw-store.js'
import type { Store } from '../store/store.js'

export type ChunkKey = Omit<DeviceChunkRow, 'bytes'>

/** Remembers nothing beyond its own life, which is one task. */
export class SealedRows {
  readonly #store: Pick<Store, 'raw' | 'getTenant' | 'getPlan'>
  /** Slices that the sealed buckets read so far cover. */
  readonly #covered = new Map<string, ReadonlySet<string>>()

  constructor (store: Pick<Store, 'raw' | 'getTenant' | 'getPlan'>) {
    this.#store = store
  }

  /** The sealed bucket that covers the chunk, once for each bucket; null where it was given already, or there is none. */
  async find (key: ChunkKey): Promise<SealedBucket | null> {
    const { tenant, device, bucket } = key
    const name = `${tenant}\0${device}\0${bucket.widthMinutes}\0${bucket.start}`
    if (this.#covered.get(name)?.has(sliceName(key.slice)) === true) return null
    const record = await this.#store.getTenant(tenant)
    if (record === null) return null
    const { plan } = await this.#store.getPlan(tenant, device)
    const retentionDays = [...new Set(record.retention.map(entry => entry.days))]
    const sealed = await this.#store.raw.readSealed({ tenant, device, retentionDays, bucket, salts: saltsToRead(plan) })
    const covered = new Set(sealed?.covered.map(sliceName))
    this.#covered.set(name, covered)
    return covered.has(sliceName(key.slice)) ? sealed : null
  }
}

function sliceName ({ journalId, mark }: SliceId): string {
  return `${journalId}:${mark}`
}
