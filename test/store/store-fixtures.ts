/** What the store's contract suites share: rows with sensible defaults, unique names, and a seeded source of randomness. */
import { randomInt } from 'node:crypto'
import type { SliceId } from '../../src/core/reading.js'
import { usPerDay } from '../../src/core/reading.js'
import type { BucketRef, DeviceChunkRow, HeadWrite, RetentionClass, SlabRow } from '../../src/store/raw-store.js'
import type { Store } from '../../src/store/store.js'
import type { Device, Tenant } from '../../src/tenancy/model.js'

/** Opens a store for one test; it need not be empty. */
export type OpenStore = () => Promise<Store>

/** A day in 2024, a multiple of 30 days since the epoch. */
export const day0 = 660 * 30 * usPerDay
export const retentionDays = 365

const run = randomInt(36 ** 6).toString(36)
let names = 0

/** A tenant id that no other test has. */
export function newTenantId (prefix = 't'): string {
  return `${prefix}${run}-${(names++).toString(36)}`
}

export function tenantOf (id: string, days = retentionDays): Tenant {
  return { id, name: `Tenant ${id}`, createdAt: day0, retention: [{ sinceStamp: 0, days }], disabled: false }
}

export function deviceOf (tenant: string, id: string, more: Partial<Device> = {}): Device {
  return { tenant, id, type: 'meter', name: '', gateway: false, gatewayId: null, createdAt: day0, ...more }
}

export function sliceOf (mark: number, journalId = '00000000000000aa'): SliceId {
  return { journalId, mark }
}

type Chunk = DeviceChunkRow & RetentionClass
type Slab = SlabRow & RetentionClass

export function chunkOf (tenant: string, device: string, more: Partial<Chunk> = {}): Chunk {
  const bucket = more.bucket ?? { start: day0, widthMinutes: 1440 }
  return { tenant, device, bucket, salt: 0, slice: sliceOf(1), part: 0, minTs: bucket.start, maxTs: bucket.start + 1000, bytes: Buffer.from('chunk'), retentionDays, ...more }
}

export function slabOf (tenant: string, more: Partial<Slab> = {}): Slab {
  return { tenant, shard: 7, minute: day0, slice: sliceOf(1), bytes: Buffer.from('slab'), retentionDays, ...more }
}

export function writeOf (parts: Partial<HeadWrite>): HeadWrite {
  return { chunks: [], slabs: [], seen: [], ...parts }
}

export function refOf (tenant: string, device: string, more: Partial<BucketRef> = {}): BucketRef {
  return { tenant, device, retentionDays: [retentionDays], bucket: { start: day0, widthMinutes: 1440 }, salts: 1, ...more }
}

export async function gather<T> (rows: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const row of rows) all.push(row)
  return all
}

/** Rows with their bytes as text, so that they compare by content. */
export function readable<T extends { readonly bytes: Uint8Array }> (rows: readonly T[]): (Omit<T, 'bytes'> & { text: string })[] {
  return rows.map(({ bytes, ...row }) => ({ ...row, text: Buffer.from(bytes).toString('latin1') }))
}

export { seededRandom as randomFrom } from '../../simulators/fleet/seeded-random.js'

export function newSeed (): number {
  return randomInt(2 ** 31)
}
