/** Two server processes on one Cassandra keyspace and one Redis prefix, each with a journal and a wall clock of its own. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import type { TwinfoldApi } from '../../simulators/twinfold-api.js'
import type { StoreSpec } from '../../workers/protocol.js'
import { dropKeyspace } from '../support/keyspace.js'
import { clusterSettings } from '../support/outage-fleet.js'
import { startServer, temporaryDirectory, testAdminKey, type TestServer } from '../support/server.js'
import { newTestName, services } from '../support/services.js'

const entryFile = fileURLToPath(new URL('skewed-server.js', import.meta.url))

interface Teardown { teardown(undo: () => unknown): unknown }

export interface TwoNodesOptions {
  /** Of each node's wall clock, ms. */
  readonly skewMs?: readonly [number, number]
  readonly settings?: Readonly<Record<string, string>>
}

export const tenant = 'fleet'

export interface NodeProcess {
  readonly name: string
  readonly directory: string
  server: TestServer
  /** In the tenant, as its operator. */
  readonly api: TwinfoldApi
  kill(): Promise<void>
  start(): Promise<void>
}

export interface TwoNodes {
  readonly a: NodeProcess
  readonly b: NodeProcess
  readonly nodes: readonly [NodeProcess, NodeProcess]
  readonly store: StoreSpec
  /** The operator's key. */
  readonly key: string
  /** Everything that was acknowledged on nodes that run is packed. */
  drain(): Promise<void>
}

class Process implements NodeProcess {
  readonly name: string
  readonly directory: string
  readonly #settings: Record<string, string>
  #server: TestServer | undefined
  key = ''

  constructor (name: string, directory: string, settings: Record<string, string>) {
    this.name = name
    this.directory = directory
    this.#settings = settings
  }

  get server (): TestServer {
    if (this.#server === undefined) throw new Error(`node ${this.name} was not started`)
    return this.#server
  }

  get api (): TwinfoldApi { return this.server.api(this.key) }

  async start (): Promise<void> {
    this.#server = await startServer({ directory: this.directory, settings: this.#settings, entryFile, readyTimeoutMs: 120_000 })
  }

  async kill (): Promise<void> { await this.#server?.kill() }
}

/** @throws Error where a service is not there: tests ask `skipWithout` first. */
export async function startTwoNodes (t: Teardown, options: TwoNodesOptions = {}): Promise<TwoNodes> {
  const { cassandra, redis } = services()
  if (cassandra === null || redis === null) throw new Error('no Cassandra or Redis runs; scripts/services up starts them')
  const name = newTestName()
  const { directory, remove } = await temporaryDirectory('two-nodes')
  const base = clusterSettings({ contactPoints: [cassandra.contactPoint], dataCenter: cassandra.dataCenter, redisUrl: redis.url, keyspace: name }, { TWINFOLD_PACK_THREADS: '1', TWINFOLD_QUERY_THREADS: '1', ...options.settings })
  const [skewA, skewB] = options.skewMs ?? [0, 0]
  const a = new Process('a', join(directory, 'a'), { ...base, TWINFOLD_NODE: 'a', SKEW_MS: String(skewA) })
  const b = new Process('b', join(directory, 'b'), { ...base, TWINFOLD_NODE: 'b', SKEW_MS: String(skewB) })
  t.teardown(async () => {
    await Promise.all([a.kill(), b.kill()])
    await dropKeyspace(name)
    await forgetPrefix(redis.url, name)
    await remove()
  })
  // Both have come to an end before either failure is thrown: the teardown kills what was started.
  for (const outcome of await Promise.allSettled([a.start(), b.start()])) if (outcome.status === 'rejected') throw outcome.reason
  const key = await a.server.api(testAdminKey).createTenant(tenant, 365)
  a.key = b.key = key
  return {
    a,
    b,
    nodes: [a, b],
    key,
    store: {
      kind: 'cluster',
      outbox: false,
      cassandra: { contactPoints: [cassandra.contactPoint], dataCenter: cassandra.dataCenter, keyspace: name, replication: {}, consistency: 'LOCAL_QUORUM', user: '', password: '', tls: false },
      redis: { url: redis.url, prefix: name }
    },
    drain: async () => { await Promise.all([a, b].filter(node => node.server.running).map(async node => { await node.api.drain(60_000) })) }
  }
}

async function forgetPrefix (url: string, prefix: string): Promise<void> {
  const client = new Redis(url)
  try {
    for await (const keys of client.scanStream({ match: `${prefix}*`, count: 1000 }) as AsyncIterable<string[]>) if (keys.length > 0) await client.unlink(...keys)
  } finally {
    client.disconnect()
  }
}

export const pause = async (ms: number): Promise<void> => { await new Promise(resolve => { setTimeout(resolve, ms) }) }

/** What GET /nodes says, as a platform admin asks. */
export async function listNodes (node: NodeProcess): Promise<{ name: string, journal: string, state: string, clockOffsetMs: number | null }[]> {
  const { status, body } = await node.server.api(testAdminKey).ask('GET', '/nodes')
  if (status !== 200) throw new Error(`GET /nodes: ${status} ${JSON.stringify(body)}`)
  return (body as { nodes: { name: string, journal: string, state: string, clockOffsetMs: number | null }[] }).nodes
}
