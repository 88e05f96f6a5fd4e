/**
 * A year of the solar plant for several devices, written into a store as the packers would have: a head chunk per device and day, with
 * its mark, for the real sealer to find. The months that there are follow one another again and again, shifted by whole days, so that
 * the last reading is a minute or so old. Every device has the same readings, so a day is encoded once.
 */
import { usPerDay, type Chunk, type Column } from '../../src/core/reading.js'
import { encodeChunk } from '../../src/series/chunk.js'
import { bucketOf, defaultPlan } from '../../src/series/partition-plan.js'
import type { Store } from '../../src/store/store.js'
import { bundledMonths, monthFiles, solarReadings } from '../../simulators/solar-data.js'
import { ColumnBuilder } from './column-builder.js'

/** Of the readings that are loaded: no journal of a server has it. */
const journalId = '00000000000000be'
/** Readings of a day in one chunk at most; a chunk is bounded at 4096. */
const chunkReadingsMax = 4096
const rowsPerWrite = 100
const retentionDays = 3650
const minuteUs = 60e6

export interface SolarYear {
  readonly tenant: string
  readonly devices: readonly string[]
  readonly days: number
  /** µs, exclusive */
  readonly endTs: number
  /** Monthly files; undefined: the bundled one. */
  readonly data: string | undefined
}

export interface LoadedYear {
  readonly readings: number
  readonly points: number
  /** Buckets that the sealer will find. */
  readonly buckets: number
  readonly metrics: readonly string[]
}

interface Row { readonly ts: number, readonly values: Record<string, number | string> }

function readRows (data: string | undefined): Row[] {
  const rows: Row[] = []
  for (const { tsMs, valuesJson } of solarReadings(data === undefined ? bundledMonths() : monthFiles(data))) rows.push({ ts: tsMs * 1000, values: JSON.parse(valuesJson) as Row['values'] })
  return rows
}

/** Descending days of the year: [rows of the day, added to their times]. */
function * daysOf (rows: readonly Row[], { days, endTs }: SolarYear): Generator<{ readonly rows: readonly Row[], readonly shiftUs: number }> {
  const first = Math.floor(rows[0].ts / usPerDay) * usPerDay
  const periodUs = (Math.floor(rows[rows.length - 1].ts / usPerDay) + 1) * usPerDay - first
  const byDay = new Map<number, Row[]>()
  for (const row of rows) {
    const day = Math.floor((row.ts - first) / usPerDay)
    const known = byDay.get(day)
    if (known === undefined) byDay.set(day, [row])
    else known.push(row)
  }
  const periodDays = periodUs / usPerDay
  const endDay = Math.floor(endTs / usPerDay)
  for (let back = 0; back < days; back++) {
    const dayOfYear = endDay - back
    const place = ((-1 - back) % periodDays + periodDays) % periodDays
    const found = byDay.get(place)
    if (found !== undefined) yield { rows: found, shiftUs: dayOfYear * usPerDay - (first + place * usPerDay) }
  }
}

function chunkOf (rows: readonly Row[], shiftUs: number, stampUs: number): Chunk {
  const columns = new ColumnBuilder()
  rows.forEach(({ values }, row) => { for (const metric in values) columns.add(metric, row, values[metric]) })
  return { ts: Float64Array.from(rows, ({ ts }) => ts + shiftUs), stamps: Float64Array.from(rows, (_, i) => stampUs + i), columns: columns.columns(rows.length) as Column[] }
}

/** Writes the year; the devices must be there. @param stampUs accept stamp of all of it: before now */
export async function loadSolarYear (store: Store, year: SolarYear, stampUs: number, log: (line: string) => void): Promise<LoadedYear> {
  const rows = readRows(year.data)
  const metrics = [...new Set(rows.flatMap(({ values }) => Object.keys(values)))].sort()
  let readings = 0
  let points = 0
  let buckets = 0
  let mark = 1
  for (const { rows: all, shiftUs } of daysOf(rows, year)) {
    const present = all.filter(({ ts }) => ts + shiftUs < year.endTs - minuteUs)
    for (let from = 0; from < present.length; from += chunkReadingsMax) {
      const part = present.slice(from, from + chunkReadingsMax)
      const chunk = chunkOf(part, shiftUs, stampUs)
      const bytes = encodeChunk(chunk)
      const bucket = bucketOf(defaultPlan, chunk.ts[0])
      const base = { bucket, salt: 0, slice: { journalId, mark: mark++ }, part: 0, minTs: chunk.ts[0], maxTs: chunk.ts[chunk.ts.length - 1], bytes, tenant: year.tenant, retentionDays }
      for (let at = 0; at < year.devices.length; at += rowsPerWrite) {
        const devices = year.devices.slice(at, at + rowsPerWrite)
        await store.raw.writeHead({
          chunks: devices.map(device => ({ ...base, device })),
          slabs: [],
          seen: devices.map(device => ({ tenant: year.tenant, device, day: Math.floor(chunk.ts[0] / usPerDay) * usPerDay, metrics, retentionDays }))
        })
      }
      readings += part.length * year.devices.length
      points += chunk.columns.reduce((sum, { values }) => sum + values.length, 0) * year.devices.length
    }
    if (present.length > 0) buckets += year.devices.length
    if (mark % 50 === 0) log(`${readings} readings written`)
  }
  await store.raw.flush()
  return { readings, points, buckets, metrics }
}
