/**
 * Section `hot`: a device that sends 5,000 readings a second beside 1,000 that send one each. Does it slow the others down,
 * and does any partition grow too large? The normal devices are measured alone and beside the hot one, in pairs.
 */
import { clusterSettings } from '../../test/support/outage-fleet.js'
import type { PrivateCassandra } from '../../test/support/private-cassandra.js'
import { startPrivateRedis } from '../../test/support/private-redis.js'
import type { CassandraSettings } from '../../workers/protocol.js'
import type { BenchContext, Row } from './bench-context.js'
import { startContestant, type Contestant } from './contestants.js'
import { runFleet, type FleetMeasurement } from './fleet-run.js'
import { median, pairedRatio } from './statistics.js'

const normalDevices = 1000
const normalRate = 1000
const normalConnections = 50
const hotRate = 5000
/** How long the hot device sends before the pairs: without salts its partition would be past 10 MiB by the end. */
const hotSeconds = 240

interface TableStats { readonly tables: Readonly<Record<string, Readonly<Record<string, unknown>>>> }

/** The largest partition of the keyspace after a flush and a compaction, MiB (Cassandra's own estimate, at most 20 % too high). */
async function largestPartitionMib (cassandra: PrivateCassandra, keyspace: string): Promise<number> {
  await cassandra.nodeTool(0, 'flush', keyspace)
  await cassandra.nodeTool(0, 'compact', keyspace)
  const stats = JSON.parse(await cassandra.nodeTool(0, 'tablestats', '-F', 'json', keyspace)) as Record<string, TableStats>
  const bytes = Object.values(stats[keyspace].tables).map(table => Number(table.compacted_partition_maximum_bytes))
  return Math.max(...bytes) / 2 ** 20
}

async function plan (contestant: Contestant, device: string): Promise<{ readonly saltsNow: number, readonly widths: readonly unknown[] }> {
  const response = await fetch(`${contestant.server.httpUrl}/api/v1/devices/${device}/partition-plan`, { headers: { authorization: `Bearer ${contestant.key}` } })
  if (!response.ok) throw new Error(`partition plan: ${response.status} ${await response.text()}`)
  return await response.json() as { saltsNow: number, widths: unknown[] }
}

export async function hotSection (context: BenchContext, cassandra: PrivateCassandra, settings: CassandraSettings): Promise<Row[]> {
  const keyspace = `${settings.keyspace}_hot`
  const redis = await startPrivateRedis()
  const contestant = await startContestant(context.root, normalDevices + 1, clusterSettings({ ...cassandra, redisUrl: redis.url, keyspace }))
  const port = contestant.server.mqttPort
  const normal = async (seconds: number): Promise<FleetMeasurement> => await runFleet([
    '--port', port, '--connections', normalConnections, '--in-flight', 1024, '--rate', normalRate, '--devices', normalDevices, '--key', contestant.key, '--ts', '--seconds', seconds, '--warm-up-seconds', context.warmUpSeconds
  ], contestant.server.pid)
  const hot = async (seconds: number): Promise<FleetMeasurement> => await runFleet([
    '--port', port, '--connections', 1, '--in-flight', 1024, '--rate', hotRate, '--devices', 1, '--device-prefix', 'hot-', '--client-prefix', 'hot', '--key', contestant.key, '--ts', '--seconds', seconds, '--warm-up-seconds', context.warmUpSeconds
  ], contestant.server.pid)
  try {
    await contestant.server.api(contestant.key).createDevices(['hot-0'])
    await hot(context.quick ? 60 : hotSeconds)
    const alone: number[] = []
    const beside: number[] = []
    const hotRates: number[] = []
    for (let round = 0; round < context.rounds; round++) {
      alone.push((await normal(context.seconds)).p99Ms)
      const [measured, hotRun] = await Promise.all([normal(context.seconds), hot(context.seconds + 2)])
      beside.push(measured.p99Ms)
      hotRates.push(hotRun.messagesPerSecond)
      context.log(`hot round ${round + 1}: normal devices' ack p99 ${alone[round].toFixed(2)} ms alone, ${beside[round].toFixed(2)} ms beside the hot one`)
    }
    await contestant.drain()
    const { saltsNow, widths } = await plan(contestant, 'hot-0')
    const ratio = pairedRatio(beside, alone)
    await contestant.stop()
    return [{
      section: 'hot',
      what: `${hotRate}/s beside ${normalDevices} devices`,
      figures: {
        'hot readings/s': Math.round(median(hotRates)), 'ack p99 alone ms': median(alone), 'beside ms': median(beside), ratio: ratio.median, least: ratio.least, greatest: ratio.greatest,
        'salts of the hot device': saltsNow, 'of its widths': widths.length, 'largest partition MiB': await largestPartitionMib(cassandra, keyspace)
      }
    }]
  } finally {
    await contestant.remove()
    await redis.close()
  }
}
