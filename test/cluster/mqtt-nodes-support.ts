/** Several MQTT edges of one process on one Redis. */
import { Redis } from 'ioredis'
import { systemClock } from '../../src/core/clock.js'
import { silentLog, type Log } from '../../src/core/log.js'
import type { MqttEdgeOptions } from '../../src/edge/mqtt/mqtt-edge.js'
import { openClusterBroker, type ClusterBroker, type ClusterBrokerOptions } from '../../src/store/cluster/broker/open-cluster-broker.js'
import { startStage, type Stage } from '../edge/mqtt-harness.js'
import { newTestName } from '../support/services.js'

interface TestContext { teardown (close: () => Promise<unknown> | void): unknown }

export interface Node extends Stage {
  readonly broker: ClusterBroker
}

export interface Nodes {
  readonly prefix: string
  readonly redis: Redis
  start (options?: NodeOptions): Promise<Node>
}

export type NodeOptions = Partial<Omit<ClusterBrokerOptions, 'settings' | 'clock'>> & { readonly edge?: Partial<MqttEdgeOptions>, readonly prefix?: string }

const line = (fields: object, message: string): void => { console.error(new Date().toISOString().slice(14), message, JSON.stringify(fields)) }
const debugLog: Log = { debug: line, info: line, warn: line, error: line }
const log = process.env.MQTT_NODES_LOG === '1' ? debugLog : silentLog

/** Nodes that share a prefix of their own; everything under it is removed at the end. */
export function nodesOn (t: TestContext, url: string): Nodes {
  const prefix = newTestName()
  const redis = new Redis(url, { maxRetriesPerRequest: 0, retryStrategy: () => 200 })
  redis.on('error', () => {})
  t.teardown(async () => {
    await removeKeys(redis, prefix).catch(() => {})
    redis.disconnect()
  })
  return {
    prefix,
    redis,
    start: async ({ edge = {}, prefix: own = prefix, ...options } = {}) => {
      const broker = openClusterBroker({ settings: { url, prefix: own }, clock: systemClock, log, ...options })
      // Teardown runs in reverse: the edge is closed first.
      t.teardown(async () => { await broker.close() })
      const stage = await startStage(t, { persistence: broker.persistence, messaging: broker.messaging, log, ...edge })
      // Every node has a registry of its own here; secrets are the same.
      for (const tenant of ['acme', 'globex']) stage.registry.credential('application', tenant)
      for (const device of ['d1', 'd2']) stage.registry.device('acme', device)
      return { ...stage, broker }
    }
  }
}

export async function removeKeys (redis: Redis, prefix: string): Promise<void> {
  for await (const keys of redis.scanStream({ match: `${prefix}:*`, count: 1000 })) {
    if ((keys as string[]).length > 0) await redis.del(...keys as string[])
  }
}
