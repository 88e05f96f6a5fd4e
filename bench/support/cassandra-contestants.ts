/**
 * Three ways to keep the same readings in the same Cassandra: a row per point as the textbook has it, a row per reading with a
 * column per metric, and this server's chunks through its own raw store. All use prepared statements, the same driver and the
 * same consistency; the first two are given finished values (no parsing), ours encodes its chunks within the measured time.
 */
import { Client, types } from 'cassandra-driver'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { usPerMs, type Chunk } from '../../src/core/reading.js'
import { encodeChunk } from '../../src/series/codec.js'
import { bucketOf, defaultPlan } from '../../src/series/partition-plan.js'
import { CassandraRawStore } from '../../src/store/cluster/cassandra/cassandra-raw-store.js'
import { migrateCassandra } from '../../src/store/cluster/cassandra/migrate.js'
import { openCassandra } from '../../src/store/cluster/cassandra/open-cassandra.js'
import type { DeviceChunkRow, RetentionClass } from '../../src/store/raw-store.js'
import { bundledMonths, monthFiles, solarReadings } from '../../simulators/solar-data.js'
import type { CassandraSettings } from '../../workers/protocol.js'

/** The solar month in columns, numbers alone: the one damaged cell is left out, because the textbook's column has one type. */
export interface SolarColumns {
  readonly metrics: readonly string[]
  readonly tsMs: Float64Array
  /** By metric, then by reading; NaN where the cell is empty. */
  readonly values: readonly Float64Array[]
}

export interface CassandraContestant {
  readonly name: string
  readonly keyspace: string
  /** Writes for about that long; returns points written and the seconds that it took until the last was acknowledged. */
  write(seconds: number): Promise<{ readonly points: number, readonly seconds: number }>
  close(): Promise<void>
}

const tenant = 'bench'
const devices = 20
/** Statements of the textbook contestants in flight; 128 and 512 were no faster. */
const inFlight = 256
const hourMs = 3_600_000

export function loadSolar (directory: string | undefined): SolarColumns {
  const readings = [...solarReadings(directory === undefined ? bundledMonths() : monthFiles(directory))]
  const rows = readings.map(reading => JSON.parse(reading.valuesJson) as Record<string, number | string>)
  const metrics = Object.keys(rows[0])
  return {
    metrics,
    tsMs: Float64Array.from(readings, reading => reading.tsMs),
    values: metrics.map(metric => Float64Array.from(rows, row => typeof row[metric] === 'number' ? row[metric] : NaN))
  }
}

async function connect (settings: CassandraSettings, keyspace: string, table: string): Promise<Client> {
  const client = new Client({
    contactPoints: [...settings.contactPoints], localDataCenter: settings.dataCenter, queryOptions: { consistency: types.consistencies.localQuorum, prepare: true, isIdempotent: true }
  })
  await client.connect()
  await client.execute(`CREATE KEYSPACE ${keyspace} WITH replication = {'class': 'NetworkTopologyStrategy', '${settings.dataCenter}': 1}`, [], { prepare: false })
  await client.execute(table, [], { prepare: false })
  return client
}

/** Runs `inFlight` writers side by side that take statements from one source until the time is over. */
async function writeFor (client: Client, seconds: number, next: () => { cql: string, parameters: unknown[], points: number }): Promise<{ points: number, seconds: number }> {
  const start = performance.now()
  let points = 0
  const writer = async (): Promise<void> => {
    while (performance.now() - start < seconds * 1000) {
      const statement = next()
      await client.execute(statement.cql, statement.parameters)
      points += statement.points
    }
  }
  await Promise.all(Array.from({ length: inFlight }, writer))
  return { points, seconds: (performance.now() - start) / 1000 }
}

/** Walks the month for 20 devices side by side, and again for 20 new ones when it has ended. */
function walk (readings: number, step: number): () => { device: string, from: number, to: number } {
  let from = 0
  let device = 0
  let round = 0
  return () => {
    const at = { device: `plant-${round}-${device}`, from, to: Math.min(readings, from + step) }
    if (++device === devices) {
      device = 0
      from += step
      if (from >= readings) {
        from = 0
        round++
      }
    }
    return at
  }
}

/** `PRIMARY KEY ((tenant, device, hour), ts, metric)`. */
export async function rowPerPoint (settings: CassandraSettings, solar: SolarColumns): Promise<CassandraContestant> {
  const keyspace = 'bench_row_per_point'
  const client = await connect(settings, keyspace, `CREATE TABLE ${keyspace}.points (tenant text, device text, hour timestamp, ts timestamp, metric text, value double, PRIMARY KEY ((tenant, device, hour), ts, metric))`)
  const cql = `INSERT INTO ${keyspace}.points (tenant, device, hour, ts, metric, value) VALUES (?, ?, ?, ?, ?, ?)`
  const nextReading = walk(solar.tsMs.length, 1)
  let reading = nextReading()
  let metric = 0
  return {
    name: 'row per point',
    keyspace,
    write: async seconds => await writeFor(client, seconds, () => {
      while (metric === solar.metrics.length || Number.isNaN(solar.values[metric][reading.from])) {
        if (++metric <= solar.metrics.length - 1) continue
        metric = 0
        reading = nextReading()
      }
      const tsMs = solar.tsMs[reading.from]
      const parameters = [tenant, reading.device, new Date(Math.floor(tsMs / hourMs) * hourMs), new Date(tsMs), solar.metrics[metric], solar.values[metric][reading.from]]
      metric++
      return { cql, parameters, points: 1 }
    }),
    close: async () => { await client.shutdown() }
  }
}

/** A column per metric: the most compact row that a fixed schema allows. */
export async function rowPerReading (settings: CassandraSettings, solar: SolarColumns): Promise<CassandraContestant> {
  const keyspace = 'bench_row_per_reading'
  const names = solar.metrics.map(metric => `"${metric}"`)
  const client = await connect(settings, keyspace, `CREATE TABLE ${keyspace}.readings (tenant text, device text, hour timestamp, ts timestamp, ${names.map(name => `${name} double`).join(', ')}, PRIMARY KEY ((tenant, device, hour), ts))`)
  const cql = `INSERT INTO ${keyspace}.readings (tenant, device, hour, ts, ${names.join(', ')}) VALUES (${Array.from({ length: names.length + 4 }, () => '?').join(', ')})`
  const next = walk(solar.tsMs.length, 1)
  return {
    name: 'row per reading',
    keyspace,
    write: async seconds => await writeFor(client, seconds, () => {
      const { device, from } = next()
      const tsMs = solar.tsMs[from]
      const parameters: unknown[] = [tenant, device, new Date(Math.floor(tsMs / hourMs) * hourMs), new Date(tsMs)]
      let points = 0
      for (const column of solar.values) {
        const present = !Number.isNaN(column[from])
        parameters.push(present ? column[from] : types.unset)
        if (present) points++
      }
      return { cql, parameters, points }
    }),
    close: async () => { await client.shutdown() }
  }
}

/** Calls of `writeHead` in flight: as many as a server with so many pack threads has. */
const slicesInFlight = 4

/** The server's raw store, as its packers call it: one call a slice, a chunk of `readings` for each of 20 devices. */
export async function chunks (settings: CassandraSettings, solar: SolarColumns, readings: number): Promise<CassandraContestant> {
  const keyspace = `bench_chunks_${readings}`
  const own: CassandraSettings = { ...settings, keyspace }
  await migrateCassandra(own, { clock: systemClock, log: silentLog })
  const client = await openCassandra(own, { clock: systemClock, log: silentLog })
  const raw = new CassandraRawStore(client, { clock: systemClock, outbox: false })
  const next = walk(solar.tsMs.length, readings)
  let mark = 0
  const nextSlice = (): { rows: (DeviceChunkRow & RetentionClass)[], points: number } => {
    mark += 100_000
    let points = 0
    const rows = Array.from({ length: devices }, () => {
      const { device, from, to } = next()
      const chunk = chunkOf(solar, from, to, systemClock.nowUs())
      for (const column of chunk.columns) points += column.values.length
      const minTs = solar.tsMs[from] * usPerMs
      const slice = { journalId: '00000000000000b1', mark }
      return { tenant, device, bucket: bucketOf(defaultPlan, minTs), salt: 0, slice, part: 0, minTs, maxTs: solar.tsMs[to - 1] * usPerMs, bytes: encodeChunk(chunk), retentionDays: 3650 }
    })
    return { rows, points }
  }
  return {
    name: `chunks of ${readings}`,
    keyspace,
    write: async seconds => {
      const start = performance.now()
      let points = 0
      const writer = async (): Promise<void> => {
        while (performance.now() - start < seconds * 1000) {
          const slice = nextSlice()
          await raw.writeHead({ chunks: slice.rows, slabs: [], seen: [] })
          points += slice.points
        }
      }
      await Promise.all(Array.from({ length: slicesInFlight }, writer))
      return { points, seconds: (performance.now() - start) / 1000 }
    },
    close: async () => { await client.close() }
  }
}

function chunkOf (solar: SolarColumns, from: number, to: number, stamp: number): Chunk {
  const rows = to - from
  return {
    ts: Float64Array.from({ length: rows }, (_, i) => solar.tsMs[from + i] * usPerMs),
    stamps: Float64Array.from({ length: rows }, (_, i) => stamp + i),
    columns: solar.metrics.flatMap((metric, m) => {
      const all = solar.values[m].subarray(from, to)
      const present: number[] = []
      all.forEach((value, i) => { if (!Number.isNaN(value)) present.push(i) })
      if (present.length === 0) return []
      return [{ metric, type: 'number' as const, rows: present.length === rows ? null : Uint32Array.from(present), values: Float64Array.from(present, i => all[i]) }]
    })
  }
}
