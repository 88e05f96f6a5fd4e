/** Requests to seal buckets again, by shard of devices and a salt, so that a large deletion does not make one large partition. */
import { hash32, shardOf } from '../../../core/ids.js'
import { inParallel } from '../../../core/in-parallel.js'
import type { BucketWidthMinutes } from '../../../series/partition-plan.js'
import type { SealRequest, SealRequestStore } from '../../seal-requests.js'
import type { CassandraClient, Statement } from './cassandra-client.js'
import { groupBy } from './cassandra-raw-keys.js'

const insert = 'INSERT INTO seal_requests (shard, salt, tenant, device, width, start, stamp) VALUES (?, ?, ?, ?, ?, ?, ?)'
const remove = 'DELETE FROM seal_requests WHERE shard = ? AND salt = ? AND tenant = ? AND device = ? AND width = ? AND start = ? AND stamp = ?'
const selectAll = 'SELECT tenant, device, width, start, stamp FROM seal_requests WHERE shard = ? AND salt = ?'
const selectOfDevice = 'SELECT stamp FROM seal_requests WHERE shard = ? AND salt = ? AND tenant = ? AND device = ?'

/** Part of the key layout: it never changes. */
const salts = [0, 1, 2, 3] as const
const requestsPerBatch = 200
const rowsPerPage = 1000

function saltOf (device: string): number {
  // Other bits than those that the shard is made of.
  return hash32(`${device}:seal`) >>> 30
}

export class CassandraSealRequests implements SealRequestStore {
  readonly #client: CassandraClient

  constructor (client: CassandraClient) {
    this.#client = client
  }

  async putSealRequests (requests: readonly SealRequest[]): Promise<void> {
    await this.#writeAll(insert, requests)
  }

  async * scanSealRequests (shard: number): AsyncGenerator<SealRequest> {
    const firstPages = await inParallel(salts, async salt => await this.#client.page(selectAll, [shard, salt], rowsPerPage, null))
    for (const salt of salts) {
      for (let page = firstPages[salt]; ;) {
        for (const { tenant, device, width, start, stamp } of page.rows) {
          yield { tenant: tenant as string, device: device as string, bucket: { widthMinutes: width as BucketWidthMinutes, start: start as number }, stamp: stamp as number }
        }
        if (page.pageState === null) break
        page = await this.#client.page(selectAll, [shard, salt], rowsPerPage, page.pageState)
      }
    }
  }

  async countSealRequests (tenant: string, device: string, upToStamp: number): Promise<number> {
    let count = 0
    for await (const { stamp } of this.#client.stream(selectOfDevice, [shardOf(device), saltOf(device), tenant, device], rowsPerPage)) {
      if (stamp as number <= upToStamp) count++
    }
    return count
  }

  async deleteSealRequests (requests: readonly SealRequest[]): Promise<void> {
    await this.#writeAll(remove, requests)
  }

  async #writeAll (cql: string, requests: readonly SealRequest[]): Promise<void> {
    const batches: Statement[][] = []
    for (const group of groupBy(requests, ({ device }) => `${shardOf(device)}:${saltOf(device)}`).values()) {
      for (let i = 0; i < group.length; i += requestsPerBatch) {
        batches.push(group.slice(i, i + requestsPerBatch).map(({ tenant, device, bucket, stamp }) =>
          ({ cql, parameters: [shardOf(device), saltOf(device), tenant, device, bucket.widthMinutes, bucket.start, stamp] })))
      }
    }
    await inParallel(batches, async batch => { await this.#client.writePartition(batch) })
  }
}
