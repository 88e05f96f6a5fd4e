/** Requests to seal buckets again, in `meta`: by shard, then tenant, device, bucket and stamp. */
import { shardOf } from '../../core/ids.js'
import type { BucketWidthMinutes } from '../../series/partition-plan.js'
import type { SealRequest, SealRequestStore } from '../seal-requests.js'
import { after, rangeOf, readText, readTime, skipText, timeBytes, writeText, writeTime } from './key-bytes.js'
import { keyVersion } from './keys.js'
import { del, emptyValue, put } from './level.js'
import type { Meta } from './meta.js'
import { metaTables } from './meta-keys.js'

const headBytes = 3
/** Width, start and stamp. */
const tailBytes = 2 + 2 * timeBytes
const keysPerPage = 1000

function begin (shard: number, length: number): Buffer {
  const key = Buffer.allocUnsafe(length)
  key[0] = keyVersion
  key[1] = metaTables.sealRequest
  key[2] = shard
  return key
}

function requestKey ({ tenant, device, bucket, stamp }: SealRequest): Buffer {
  const key = begin(shardOf(device), headBytes + tenant.length + device.length + 2 + tailBytes)
  const at = writeText(key, writeText(key, headBytes, tenant), device)
  key.writeUInt16BE(bucket.widthMinutes, at)
  writeTime(key, writeTime(key, at + 2, bucket.start), stamp)
  return key
}

function readRequestKey (key: Buffer): SealRequest {
  const deviceAt = skipText(key, headBytes)
  const at = key.length - tailBytes
  return {
    tenant: readText(key, headBytes, deviceAt),
    device: readText(key, deviceAt, at),
    bucket: { widthMinutes: key.readUInt16BE(at) as BucketWidthMinutes, start: readTime(key, at + 2) },
    stamp: readTime(key, at + 2 + timeBytes)
  }
}

export class EmbeddedSealRequests implements SealRequestStore {
  readonly #meta: Meta

  constructor (meta: Meta) {
    this.#meta = meta
  }

  async putSealRequests (requests: readonly SealRequest[]): Promise<void> {
    if (requests.length > 0) await this.#meta.writeSynced(requests.map(request => put(requestKey(request), emptyValue)))
  }

  async * scanSealRequests (shard: number): AsyncGenerator<SealRequest> {
    // Page by page: what handles a request may write to the same database meanwhile.
    const { lt } = rangeOf(begin(shard, headBytes))
    for (let gte: Buffer = begin(shard, headBytes); ;) {
      const keys = await this.#page(gte, lt)
      for (const key of keys) yield readRequestKey(key)
      if (keys.length === 0) return
      gte = after(keys[keys.length - 1])
    }
  }

  async countSealRequests (tenant: string, device: string, upToStamp: number): Promise<number> {
    const prefix = begin(shardOf(device), headBytes + tenant.length + device.length + 2)
    writeText(prefix, writeText(prefix, headBytes, tenant), device)
    const { lt } = rangeOf(prefix)
    let count = 0
    for (let gte = prefix; ;) {
      const keys = await this.#page(gte, lt)
      for (const key of keys) if (readRequestKey(key).stamp <= upToStamp) count++
      if (keys.length === 0) return count
      gte = after(keys[keys.length - 1])
    }
  }

  /** A removal that a power failure takes back is a bucket that is sealed once more. */
  async deleteSealRequests (requests: readonly SealRequest[]): Promise<void> {
    await this.#meta.write(requests.map(request => del(requestKey(request))))
  }

  async #page (gte: Buffer, lt: Buffer): Promise<readonly Buffer[]> {
    return await this.#meta.read(async database => await database.keys({ gte, lt, limit: keysPerPage }).all() as Buffer[])
  }
}
