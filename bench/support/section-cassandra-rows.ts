/** Section `rows`: points a second and bytes a point on Cassandra's disk of three ways to keep the same readings, in one run. */
import type { PrivateCassandra } from '../../test/support/private-cassandra.js'
import type { CassandraSettings } from '../../workers/protocol.js'
import type { BenchContext, Row } from './bench-context.js'
import { chunks, loadSolar, rowPerPoint, rowPerReading, type CassandraContestant } from './cassandra-contestants.js'
import { keyspaceBytes } from './cassandra-disk.js'
import { median, pairedRatio } from './statistics.js'

interface Measured { readonly contestant: CassandraContestant, readonly rates: number[], points: number }

async function measure (contestant: CassandraContestant, rounds: number, seconds: number, log: (line: string) => void, all: Measured[]): Promise<void> {
  let found = all.find(one => one.contestant === contestant)
  if (found === undefined) all.push(found = { contestant, rates: [], points: 0 })
  for (let round = 0; round < rounds; round++) {
    const { points, seconds: took } = await contestant.write(seconds)
    found.points += points
    found.rates.push(points / took)
    log(`  ${contestant.name}: ${Math.round(points / took).toLocaleString('en-US')} points/s`)
  }
}

export async function rowsSection (context: BenchContext, cassandra: PrivateCassandra, settings: CassandraSettings): Promise<Row[]> {
  const solar = loadSolar(context.data)
  const perPoint = await rowPerPoint(settings, solar)
  const perReading = await rowPerReading(settings, solar)
  const sixty = await chunks(settings, solar, 60)
  const compared = [perPoint, perReading, sixty]
  const others: CassandraContestant[] = []
  const all: Measured[] = []
  const warmUp: Measured[] = []
  try {
    for (const contestant of compared) await measure(contestant, 1, context.warmUpSeconds, () => {}, warmUp)
    // Interleaved, so that what the machine does otherwise falls on all alike.
    for (let round = 0; round < context.rounds; round++) for (const contestant of compared) await measure(contestant, 1, context.seconds, context.log, all)
    for (const readings of [1, 6, 360]) {
      const contestant = await chunks(settings, solar, readings)
      others.push(contestant)
      await measure(contestant, 2, context.seconds, context.log, all)
    }
    for (const { contestant, points } of warmUp) (all.find(one => one.contestant === contestant) as Measured).points += points
    const rates = (contestant: CassandraContestant): number[] => (all.find(one => one.contestant === contestant) as Measured).rates
    const rows: Row[] = []
    for (const { contestant, rates: own, points } of all) {
      const bytes = await keyspaceBytes(cassandra, contestant.keyspace)
      const figures: Record<string, number | string> = { 'points/s': Math.round(median(own)), 'bytes/point': bytes / points }
      if (contestant === sixty) {
        figures['× row per point'] = pairedRatio(own, rates(perPoint)).median
        figures['× row per reading'] = pairedRatio(own, rates(perReading)).median
      }
      rows.push({ section: 'rows', what: contestant.name, figures })
    }
    return rows
  } finally {
    for (const contestant of [...compared, ...others]) await contestant.close()
  }
}
