/** A store that is loaded, the real server on it, and what every section of the query bench does with it: wait for seals, ask, measure. */
import { mkdtemp, rm } from 'node:fs/promises'
import { request, Agent } from 'node:http'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { systemClock } from '../../src/core/clock.js'
import { inParallel } from '../../src/core/in-parallel.js'
import { silentLog } from '../../src/core/log.js'
import { newCredential } from '../../src/gate/authenticate.js'
import { openStore } from '../../src/store/open-store.js'
import type { Store } from '../../src/store/store.js'
import { dropKeyspace } from '../../test/support/keyspace.js'
import { clusterSettings } from '../../test/support/outage-fleet.js'
import { startServer, type TestServer } from '../../test/support/server.js'
import { newTestName, services } from '../../test/support/services.js'
import type { TwinfoldApi } from '../../simulators/twinfold-api.js'
import type { StoreSpec } from '../../workers/protocol.js'
import { cpuMs } from './process-meter.js'

export type Profile = 'embedded' | 'cluster'

export interface WorldOptions {
  readonly profile: Profile
  /** Directory under which the data lie. */
  readonly root: string
  readonly devices: readonly string[]
  readonly settings?: Readonly<Record<string, string>>
  /** Fills the store before the server opens it. */
  readonly load: (store: Store) => Promise<void>
}

export const benchTenant = 'bench'
const retentionDays = 3650

/** Latencies of one question, and what it cost the server. */
export interface Measured {
  readonly p50Ms: number
  readonly p99Ms: number
  readonly cpuMsPerQuery: number
  readonly bytes: number
  /** The answer of the last one. */
  readonly body: string
}

export class QueryWorld {
  readonly server: TestServer
  readonly api: TwinfoldApi
  readonly key: string
  readonly directory: string
  readonly #remove: () => Promise<void>
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 })

  constructor (server: TestServer, key: string, directory: string, remove: () => Promise<void>) {
    this.server = server
    this.key = key
    this.api = server.api(key)
    this.directory = directory
    this.#remove = remove
  }

  /** One request on the one kept connection: time until its last byte. @throws Error for any status but 200 */
  async ask (path: string): Promise<{ readonly ms: number, readonly body: string }> {
    const startedMs = performance.now()
    return await new Promise((resolve, reject) => {
      const asked = request(`${this.server.httpUrl}/api/v1${path}`, { agent: this.#agent, headers: { authorization: `Bearer ${this.key}` } }, response => {
        const parts: Buffer[] = []
        response.on('data', (part: Buffer) => { parts.push(part) })
        response.on('end', () => {
          const ms = performance.now() - startedMs
          const body = Buffer.concat(parts).toString()
          if (response.statusCode === 200) resolve({ ms, body })
          else reject(new Error(`GET ${path} was answered with ${String(response.statusCode)}: ${body.slice(0, 500)}`))
        })
      })
      asked.on('error', reject)
      asked.end()
    })
  }

  /** @param path of the i-th question; questions to different devices keep one cache from answering for all */
  async measure (path: (i: number) => string, { times, warmUp = 60 }: { readonly times: number, readonly warmUp?: number }): Promise<Measured> {
    for (let i = 0; i < warmUp; i++) await this.ask(path(i))
    const before = cpuMs(this.server.pid)
    const latencies: number[] = []
    let body = ''
    for (let i = 0; i < times; i++) {
      const answer = await this.ask(path(warmUp + i))
      latencies.push(answer.ms)
      ;({ body } = answer)
    }
    return { ...quantilesOf(latencies), cpuMsPerQuery: (cpuMs(this.server.pid) - before) / times, bytes: Buffer.byteLength(body), body }
  }

  /** Waits until the sealer has sealed so many buckets and has nothing due. @throws Error after `timeoutMs` */
  async sealed (buckets: number, timeoutMs: number, log: (line: string) => void): Promise<void> {
    const deadlineMs = performance.now() + timeoutMs
    for (let round = 0; ; round++) {
      const sealed = await this.api.metric('twinfold_sealer_sealed_total') ?? 0
      const waiting = await this.api.metric('twinfold_sealer_due_buckets') ?? 0
      if (sealed >= buckets && waiting === 0) return
      if (performance.now() > deadlineMs) throw new Error(`${sealed} of ${buckets} buckets are sealed after ${timeoutMs} ms, ${waiting} are due\n${this.server.errorText}`)
      if (round % 20 === 19) log(`${sealed} of ${buckets} buckets sealed`)
      await new Promise(resolve => { setTimeout(resolve, 500) })
    }
  }

  async close (): Promise<void> {
    this.#agent.destroy()
    if (this.server.running) await this.server.stop(60_000)
    await this.#remove()
  }
}

export function quantilesOf (latencies: readonly number[]): { readonly p50Ms: number, readonly p99Ms: number } {
  const sorted = [...latencies].sort((a, b) => a - b)
  return { p50Ms: sorted[sorted.length >> 1], p99Ms: sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.99))] }
}

/** Loads a new store and starts the server on it. */
export async function openQueryWorld ({ profile, root, devices, settings = {}, load }: WorldOptions): Promise<QueryWorld> {
  const directory = await mkdtemp(join(root, 'twinfold-query-'))
  const name = newTestName()
  const spec = storeSpecOf(profile, directory, name)
  const remove = async (): Promise<void> => {
    await rm(directory, { recursive: true, force: true, maxRetries: 5 })
    if (profile === 'cluster') await forgetCluster(name)
  }
  try {
    const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: true })
    let secret: string
    try {
      await store.createTenant({ id: benchTenant, name: benchTenant, createdAt: systemClock.nowUs(), retention: [{ sinceStamp: 0, days: retentionDays }], disabled: false })
      await inParallel(devices, async id => { await store.createDevice({ tenant: benchTenant, id, type: 'plant', name: id, gateway: false, gatewayId: null, createdAt: systemClock.nowUs() }) })
      const made = newCredential('operator', benchTenant, null, 'bench', systemClock.nowUs())
      ;({ secret } = made)
      await store.putCredential(made.credential)
      await load(store)
    } finally {
      await store.close()
    }
    const server = await startServer({ directory, settings: { TWINFOLD_SEAL_AFTER_MS: '1000', ...settings, ...(spec.kind === 'cluster' ? clusterOf(name) : {}) }, readyTimeoutMs: 120_000 })
    return new QueryWorld(server, secret, directory, remove)
  } catch (error) {
    await remove()
    throw error
  }
}

/** Keyspace, keys and database of the run. */
async function forgetCluster (name: string): Promise<void> {
  const { redis, clickHouse } = services()
  await dropKeyspace(name)
  if (clickHouse !== null) await fetch(clickHouse.url, { method: 'POST', body: `DROP DATABASE IF EXISTS ${name}` })
  if (redis === null) return
  const client = new Redis(redis.url)
  try {
    for await (const keys of client.scanStream({ match: `${name}*`, count: 1000 }) as AsyncIterable<string[]>) if (keys.length > 0) await client.unlink(...keys)
  } finally {
    client.disconnect()
  }
}

function clusterOf (name: string): Record<string, string> {
  const { cassandra, redis, clickHouse } = services()
  if (cassandra === null || redis === null) throw new Error('no Cassandra or Redis runs; scripts/services up starts them')
  return clusterSettings({ contactPoints: [cassandra.contactPoint], dataCenter: cassandra.dataCenter, keyspace: name, redisUrl: redis.url, ...(clickHouse === null ? {} : { clickHouseUrl: clickHouse.url }) })
}

function storeSpecOf (profile: Profile, directory: string, name: string): StoreSpec {
  if (profile === 'embedded') return { kind: 'embedded', directory: join(directory, 'store') }
  const { cassandra, redis } = services()
  if (cassandra === null || redis === null) throw new Error('no Cassandra or Redis runs; scripts/services up starts them')
  return {
    kind: 'cluster',
    outbox: false,
    cassandra: { contactPoints: [cassandra.contactPoint], dataCenter: cassandra.dataCenter, keyspace: name, replication: {}, consistency: 'LOCAL_QUORUM', user: '', password: '', tls: false },
    redis: { url: redis.url, prefix: name }
  }
}
