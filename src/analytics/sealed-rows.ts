/**
 * Where a head chunk went that the outbox names and that is gone: into a sealed bucket, or out of retention. A seal writes its
 * rows before it removes the head rows that they take in, so a chunk that was missing before the sealed bucket was read is in it or
 * has expired. A header names the chunks of its own generation only, so it cannot say of an older one whether it is in; but a
 * generation that was brought over whole need not be brought over again.
 */
import { saltsToRead } from '../series/partition-plan.js'
import type { DeviceChunkRow, Generation, SealedBucket } from '../store/raw-store.js'
import type { Store } from '../store/store.js'

export type ChunkKey = Omit<DeviceChunkRow, 'bytes'>

/** Remembers nothing beyond its own life, which is one task. */
export class SealedRows {
  readonly #store: Pick<Store, 'raw' | 'getTenant' | 'getPlan'>
  /** Generation of each bucket that was given, and the entry that asked last. */
  readonly #given = new Map<string, { generation: Generation | null, entry: number }>()

  constructor (store: Pick<Store, 'raw' | 'getTenant' | 'getPlan'>) {
    this.#store = store
  }

  /**
   * The sealed bucket that the chunk went into; null where that generation was given already, or there is none.
   * @param entry sequence of the entry that names the chunk: all its missing chunks were missing before the first is asked for.
   */
  async find (key: ChunkKey, entry: number): Promise<SealedBucket | null> {
    const { tenant, device, bucket } = key
    const name = `${tenant}\0${device}\0${bucket.widthMinutes}\0${bucket.start}`
    const given = this.#given.get(name)
    if (given?.entry === entry) return null
    const record = await this.#store.getTenant(tenant)
    if (record === null) return null
    const { plan } = await this.#store.getPlan(tenant, device)
    const retentionDays = [...new Set(record.retention.map(({ days }) => days))]
    const sealed = await this.#store.raw.readSealed({ tenant, device, retentionDays, bucket, salts: saltsToRead(plan) })
    const generation = sealed?.generation ?? null
    this.#given.set(name, { generation, entry })
    const isSame = given !== undefined && given.generation?.epoch === generation?.epoch && given.generation?.sequence === generation?.sequence
    return isSame ? null : sealed
  }
}
