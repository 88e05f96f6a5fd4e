/**
 * Port: buckets that are to be sealed again although nothing new came in: points were erased, or the retention class of their rows
 * changed. Durable; found by the sealer of the device's shard, on whatever node.
 */
import type { Bucket } from '../series/partition-plan.js'

export interface SealRequest {
  readonly tenant: string
  readonly device: string
  readonly bucket: Bucket
  /** Stamp of the request, µs: one bucket may have several. */
  readonly stamp: number
}

export interface SealRequestStore {
  putSealRequests(requests: readonly SealRequest[]): Promise<void>
  /** Requests of a shard of devices, over all tenants, in no particular order. */
  scanSealRequests(shard: number): AsyncIterable<SealRequest>
  /** How many of the device's requests up to the stamp are left: what a job waits for. */
  countSealRequests(tenant: string, device: string, upToStamp: number): Promise<number>
  deleteSealRequests(requests: readonly SealRequest[]): Promise<void>
}
