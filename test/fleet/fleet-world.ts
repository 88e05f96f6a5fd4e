/** Devices with tags and random points of them in ClickHouse, and the same points for a naive model: what fleet queries are judged by. */
import type { Test as TapTest } from 'tap'
import type { ClickHouseClient } from '@clickhouse/client'
import { ClickHouseConnection } from '../../src/store/clickhouse/clickhouse-connection.js'
import { percentileOf } from '../../src/store/clickhouse/fleet-bound.js'
import { systemClock } from '../../src/core/clock.js'
import { usPerDay, type Value } from '../../src/core/reading.js'
import type { FleetAgg, FleetKey, FleetMeasure, FleetQuery, FleetRow, FleetStep, FleetValue } from '../../src/store/fleet-store.js'
import { newTestName, services } from '../support/services.js'
import { silentLog } from '../../src/core/log.js'

export interface WorldDevice { readonly tenant: string, readonly id: string, readonly type: string, readonly gateway: string, readonly tags: Readonly<Record<string, string>> }
export interface WorldPoint { readonly tenant: string, readonly device: string, readonly metric: string, readonly ts: number, readonly value: Value, readonly version: number }

interface Test { teardown (undo: () => unknown): unknown }

/** A database of its own, with the server's own schema. */
export async function fleetDatabase (t: Test, url = services().clickHouse?.url ?? ''): Promise<ClickHouseConnection> {
  const connection = new ClickHouseConnection({ settings: { url, database: newTestName() }, clock: systemClock, log: silentLog, watch: false })
  t.teardown(async () => {
    await connection.command(`DROP DATABASE IF EXISTS ${connection.database}`).catch(() => {})
    await connection.close()
  })
  await connection.migrate()
  return connection
}

/** A timestamp as ClickHouse reads it. */
const time = (us: number): string => `${Math.floor(us / 1e6)}.${String(us % 1e6).padStart(6, '0')}`

async function insert (connection: ClickHouseConnection, table: string, rows: readonly object[]): Promise<void> {
  await connection.run(async (client: ClickHouseClient) => await client.insert({ table: `${connection.database}.${table}`, values: [...rows], format: 'JSONEachRow' }))
}

export async function putDevices (connection: ClickHouseConnection, devices: readonly WorldDevice[], more: { version?: number, deleted?: number } = {}): Promise<void> {
  const { version = 1, deleted = 0 } = more
  await insert(connection, 'devices', devices.map(({ tenant, id, type, gateway, tags }) => ({ tenant, device: id, type, name: id, gateway, is_gateway: false, tags, created_at: '1970-01-01 00:00:00', version, deleted })))
}

export async function putPoints (connection: ClickHouseConnection, points: readonly WorldPoint[]): Promise<void> {
  await insert(connection, 'points', points.map(({ tenant, device, metric, ts, value, version }) => ({
    tenant, metric, device, ts: time(ts), type: typeof value,
    number: typeof value === 'number' ? (Number.isFinite(value) ? value : Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf') : 0,
    boolean: value === true, string: typeof value === 'string' ? value : '', version: String(version)
  })))
}

/** One value for each point: the one with the greatest version. */
export function standing (points: readonly WorldPoint[]): WorldPoint[] {
  const byKey = new Map<string, WorldPoint>()
  for (const point of points) {
    const key = `${point.tenant}\0${point.device}\0${point.metric}\0${point.ts}`
    const present = byKey.get(key)
    if (present === undefined || present.version <= point.version) byKey.set(key, point)
  }
  return [...byKey.values()]
}

function fold (agg: FleetAgg, points: readonly WorldPoint[]): FleetValue {
  const numbers = points.map(({ value }) => value).filter(value => typeof value === 'number')
  const ordered = [...points].sort((a, b) => a.ts - b.ts || (a.device < b.device ? -1 : 1))
  const sum = numbers.reduce((total, value) => total + value, 0)
  if (agg === 'count') return points.length
  if (agg === 'devices') return new Set(points.map(({ device }) => device)).size
  if (agg === 'first') return ordered[0].value
  if (agg === 'last') return ordered[ordered.length - 1].value
  if (numbers.length === 0) return null
  if (agg === 'sum') return sum
  if (agg === 'avg') return sum / numbers.length
  if (agg === 'min') return Math.min(...numbers)
  if (agg === 'max') return Math.max(...numbers)
  if (agg === 'stddev') return Math.sqrt(numbers.reduce((total, value) => total + (value - sum / numbers.length) ** 2, 0) / numbers.length)
  const sorted = numbers.sort((a, b) => a - b)
  return sorted[Math.floor((percentileOf(agg) ?? 0) * (sorted.length - 1))]
}

/** The answer as anybody would work it out by hand. `windowOf` gives the start of a point's window. */
export function naiveAnswer (query: FleetQuery, all: readonly WorldPoint[], devices: readonly WorldDevice[], windowOf: (ts: number) => number | null): FleetRow[] {
  const deviceOf = (id: string): WorldDevice | undefined => devices.find(device => device.tenant === query.tenant && device.id === id)
  const keyOf = (key: FleetKey, id: string): string => {
    const device = deviceOf(id)
    if (key === 'device') return id
    return (key === 'type' ? device?.type : key === 'gateway' ? device?.gateway : device?.tags[key.slice(4)]) ?? ''
  }
  const { devices: ids, types, gateways, tags } = query.where
  const counts = (id: string): boolean => {
    const device = deviceOf(id)
    if (ids !== undefined && !ids.includes(id)) return false
    if (types !== undefined && (device === undefined || !types.includes(device.type))) return false
    if (gateways !== undefined && (device === undefined || !gateways.includes(device.gateway))) return false
    for (const [name, values] of tags ?? []) if (device === undefined || !values.includes(device.tags[name] ?? '')) return false
    return true
  }
  const points = standing(all).filter(({ tenant, ts, device }) => tenant === query.tenant && ts >= query.fromTs && ts < query.toTs && counts(device))
  const groupOf = (point: WorldPoint): string => query.groupBy.map(key => keyOf(key, point.device)).join('\0')
  const grouped = (items: readonly WorldPoint[], key: (point: WorldPoint) => string): Map<string, WorldPoint[]> => {
    const groups = new Map<string, WorldPoint[]>()
    for (const item of items) groups.set(key(item), [...groups.get(key(item)) ?? [], item])
    return groups
  }
  const measured = ({ agg, metric }: FleetMeasure, group: readonly WorldPoint[]): number | null => {
    const own = group.filter(point => point.metric === metric)
    const value = own.length === 0 ? (agg === 'count' || agg === 'devices' ? 0 : null) : fold(agg, own)
    return typeof value === 'number' ? value : null
  }
  const { topK, having } = query
  const measures = new Set([...having, ...topK === null ? [] : [topK]].map(({ metric }) => metric))
  let chosen: string[] = [...grouped(points, groupOf).keys()].sort()
  if (measures.size > 0) {
    const ranked = [...grouped(points.filter(({ metric }) => measures.has(metric)), groupOf)].map(([group, items]) => ({ group, items, by: topK === null ? 0 : measured(topK, items) }))
      .filter(({ items, by }) => by !== null && having.every(condition => {
        const value = measured(condition, items)
        if (value === null) return false
        return condition.op === '<' ? value < condition.value : condition.op === '<=' ? value <= condition.value : condition.op === '>' ? value > condition.value : value >= condition.value
      }))
      .sort((a, b) => (topK?.order === 'asc' ? 1 : -1) * ((a.by ?? 0) - (b.by ?? 0)) || (a.group < b.group ? -1 : 1))
    chosen = ranked.slice(0, topK?.k ?? ranked.length).map(({ group }) => group)
  }
  const rows: FleetRow[] = []
  for (const group of chosen) {
    const own = points.filter(point => groupOf(point) === group && query.metrics.includes(point.metric))
    const cells = [...grouped(own, point => `${point.metric}\0${String(windowOf(point.ts) ?? 0).padStart(20, '0')}`)].sort(([a], [b]) => a < b ? -1 : 1)
    for (const [, items] of cells) {
      rows.push({ metric: items[0].metric, ts: windowOf(items[0].ts), group: query.groupBy.length === 0 ? [] : group.split('\0'), values: query.aggs.map(agg => fold(agg, items)) })
    }
  }
  return query.groupBy.length === 0 ? rows.sort((a, b) => a.metric < b.metric ? -1 : a.metric > b.metric ? 1 : (a.ts ?? 0) - (b.ts ?? 0)) : rows
}

export type Random = () => number
export const pick = <T> (random: Random, items: readonly T[]): T => items[Math.floor(random() * items.length)]

export function someDevices (random: Random): WorldDevice[] {
  return ['acme', 'bolt'].flatMap(tenant => Array.from({ length: 12 }, (_, index) => ({
    tenant, id: `d-${index}`, type: pick(random, ['pump', 'valve', '']), gateway: pick(random, ['', 'gate-1', 'gate-2']),
    tags: { ...random() < 0.7 ? { site: pick(random, ['berlin', "o'hare", 'ümlaut "x" \\n', '']) } : {}, ...random() < 0.5 ? { line: pick(random, ['1', '2']) } : {} }
  })))
}

/** Window starts by the calendar of the language, not the engine's. */
export function windowsOf (step: FleetStep | null): (ts: number) => number | null {
  if (step === null) return () => null
  if (step.kind === 'fixed') return ts => Math.floor(ts / step.us) * step.us
  const format = new Intl.DateTimeFormat('en-CA', { timeZone: step.timeZone, year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' })
  const local = (us: number): number => {
    const part = Object.fromEntries(format.formatToParts(us / 1000).map(({ type, value }) => [type, Number(value)]))
    return Date.UTC(part.year, part.month - 1, part.day, part.hour, part.minute, part.second) * 1000
  }
  const known = new Map<number, number>()
  return ts => {
    const day = Math.floor(Math.floor(local(ts) / usPerDay) / step.days) * step.days
    let start = known.get(day)
    if (start === undefined) {
      start = day * usPerDay
      for (let i = 0; i < 3; i++) start += day * usPerDay - local(start)
      known.set(day, start)
    }
    return start
  }
}

export function near (t: TapTest, got: readonly FleetRow[], wanted: readonly FleetRow[], aggs: readonly FleetAgg[], label: string): void {
  t.strictSame(got.map(({ metric, ts, group }) => ({ metric, ts, group })), wanted.map(({ metric, ts, group }) => ({ metric, ts, group })), `${label}: rows`)
  for (const [index, row] of wanted.entries()) {
    row.values.forEach((value, at) => {
      const other = got[index]?.values[at]
      if (typeof value !== 'number') { t.equal(other, value, label); return }
      const scale = aggs[at].startsWith('p') ? 0.011 * Math.abs(value) + 1e-9 : 1e-9 * (1 + Math.abs(value))
      if (typeof other !== 'number' || Math.abs(other - value) > scale) t.fail(`${label}: ${aggs[at]} of ${JSON.stringify(row.group)} is ${String(other)}, not ${value}`)
    })
  }
}
