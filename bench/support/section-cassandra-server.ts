/** Section `server`: the solar data through the whole server at full speed, and what it takes on Cassandra's disk. */
import { replaySolar } from '../../simulators/solar-replay.js'
import { clusterSettings } from '../../test/support/outage-fleet.js'
import type { PrivateCassandra } from '../../test/support/private-cassandra.js'
import { startPrivateRedis } from '../../test/support/private-redis.js'
import type { CassandraSettings } from '../../workers/protocol.js'
import type { BenchContext, Row } from './bench-context.js'
import { keyspaceBytes, tableBytes } from './cassandra-disk.js'
import { startContestant } from './contestants.js'

const devices = 20
/** Slabs of what came sparsely are merged after `mergeAfterMs`; by then they all are. */
const mergeAfterMs = 1000
const mergedMs = 5000

export async function serverSection (context: BenchContext, cassandra: PrivateCassandra, settings: CassandraSettings): Promise<Row[]> {
  const keyspace = `${settings.keyspace}_server`
  const redis = await startPrivateRedis()
  try {
    const contestant = await startContestant(context.root, 0, { ...clusterSettings({ ...cassandra, redisUrl: redis.url, keyspace }), TWINFOLD_MERGE_AFTER_MS: String(mergeAfterMs) })
    try {
      const summary = await replaySolar({
        data: context.data, months: [], devices, devicePrefix: 'plant-', speed: Infinity, shift: true, staggerMs: 0, qos: 1, inFlight: 500,
        server: `mqtt://127.0.0.1:${contestant.server.mqttPort}`, http: contestant.server.httpUrl, key: contestant.key, tokens: [], quiet: true
      })
      const endedMs = performance.now()
      await contestant.drain()
      const drainMs = performance.now() - endedMs
      await new Promise(resolve => { setTimeout(resolve, mergedMs) })
      await contestant.stop()
      const bytes = await keyspaceBytes(cassandra, keyspace)
      const tables = [...await tableBytes(cassandra, keyspace)].sort((a, b) => b[1] - a[1]).slice(0, 4)
      return [{
        section: 'server',
        what: `${devices} plants at full speed (mqtt.js)`,
        figures: {
          readings: summary.acked, 'points/s': Math.round(summary.pointsPerSecond), 'drain ms': Math.round(drainMs), 'bytes/point': bytes / summary.points,
          'of that by table': tables.map(([table, own]) => `${table} ${(own / summary.points).toFixed(3)}`).join(', ')
        }
      }]
    } finally {
      await contestant.remove()
    }
  } finally {
    await redis.close()
  }
}
