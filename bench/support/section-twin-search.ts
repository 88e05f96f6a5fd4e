/** Sections `search`, `search-cluster`: five filters over so many twins, at one client, after all of them have been brought into search. */
import { randomBytes } from 'node:crypto'
import { KeyedLock } from '../../src/core/keyed-lock.js'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import type { Store } from '../../src/store/store.js'
import { TwinService } from '../../src/twin/twin-service.js'
import type { BenchContext, Row } from './bench-context.js'
import { benchTenant, openQueryWorld, type Profile, type QueryWorld } from './query-world.js'

const sites = ['berlin', 'hamburg', 'dresden', 'cologne', 'munich', 'leipzig', 'bremen', 'essen', 'bonn', 'mainz']
const reportsAtOnce = 512
const readingsPerPost = 5000
const filledTimeoutMs = 900_000

const filters: Readonly<Record<string, string>> = {
  'tag and reported': 'tags.site eq "berlin" and reported.firmware lt "1.3"',
  'tag, reported and latest': 'reported.firmware lt "2.0" and tags.site eq "dresden" and latest.temperature gt 80',
  'latest alone': 'latest.temperature gt 98.5',
  'number deep inside': 'reported.network.rssi lt -95 and type eq "pump"',
  'absent, negated': 'not (tags.site in ("berlin","bonn")) and not reported.error exists and reported.counter ge 99000'
}

function reportOf (k: number): Buffer {
  const error = k % 3 === 0 ? { error: `E${k % 40}` } : {}
  return Buffer.from(JSON.stringify({
    firmware: `${k % 2 + 1}.${k % 7}`, counter: k, network: { rssi: -40 - k % 60, ssid: `net-${k % 500}`, ip: `10.${k >> 16}.${(k >> 8) & 255}.${k & 255}` },
    uptime: k * 13 % 1_000_000, mode: k % 5 === 0 ? 'eco' : 'auto', position: { lat: 50 + k % 1000 / 200, lon: 8 + k % 777 / 100 }, ...error
  }))
}

async function fill (store: Store, devices: readonly string[], log: (line: string) => void): Promise<void> {
  let stamp = systemClock.nowUs()
  const twins = new TwinService({
    store, registry: store, deviceLock: new KeyedLock(), rules: { rulesOf: async () => await Promise.resolve({ conflicts: 'cloud', check: () => null }) }, writer: randomBytes(8).toString('hex'),
    authoritative: true, intents: null, nowStamp: () => ++stamp, random: Math.random, historyDays: 90, log: silentLog
  })
  for (let from = 0; from < devices.length; from += reportsAtOnce) {
    const ids = devices.slice(from, from + reportsAtOnce)
    await Promise.all(ids.map(async (device, i) => {
      await store.updateDevice({ tenant: benchTenant, id: device, type: (from + i) % 3 === 0 ? 'pump' : 'valve', name: device, gateway: false, gatewayId: null, createdAt: stamp, tags: { site: sites[(from + i) % sites.length], rack: String((from + i) % 97) } })
      await twins.deviceCreated(benchTenant, device, { site: sites[(from + i) % sites.length], rack: String((from + i) % 97) }, { kind: 'server', id: 'bench', via: 'server' })
    }))
    await twins.apply(ids.map((device, i) => ({ journalId: '0'.repeat(16), position: from + i + 1, stamp: ++stamp, tenant: benchTenant, device, path: 'twin/reported', payload: reportOf(from + i), replayed: false })))
    if ((from / reportsAtOnce) % 40 === 39) log(`${from + ids.length} twins are written`)
  }
  await twins.close()
}

async function sendReadings (world: QueryWorld, devices: readonly string[]): Promise<void> {
  for (let from = 0; from < devices.length; from += readingsPerPost) {
    const body = devices.slice(from, from + readingsPerPost).map((device, i) => `{"device":"${device}","values":{"temperature":${((from + i) * 7919 % 1000) / 10},"pressure":${(from + i) % 50}}}`).join('\n')
    for (;;) {
      const { status } = await world.api.ask('POST', '/telemetry', body, { 'content-type': 'application/x-ndjson' })
      if (status === 202) break
      if (status !== 429) throw new Error(`readings were answered with ${status}`)
      await new Promise(resolve => { setTimeout(resolve, 500) })
    }
  }
}

const pathOf = (filter: string): string => `/devices?limit=100&filter=${encodeURIComponent(filter)}`

async function filled (world: QueryWorld, filter: string, count: number): Promise<number> {
  const startedMs = performance.now()
  for (;;) {
    const { status, body } = await world.api.ask('GET', `${pathOf(filter)}&count=true`)
    const found = status === 200 ? (body as { count: number }).count : 0
    if (found === count) return (performance.now() - startedMs) / 1000
    if (performance.now() - startedMs > filledTimeoutMs) throw new Error(`search has ${found} of ${count}: ${status} ${JSON.stringify(body).slice(0, 500)}`)
    await new Promise(resolve => { setTimeout(resolve, 500) })
  }
}

export async function searchSection (context: BenchContext, profile: Profile, twins: number): Promise<Row[]> {
  const devices = Array.from({ length: twins }, (_, k) => `unit-${k}`)
  const world = await openQueryWorld({ profile, root: context.root, devices, settings: { TWINFOLD_ANALYTICS: 'on' }, load: async store => { await fill(store, devices, context.log) } })
  try {
    await sendReadings(world, devices)
    await world.api.drain(600_000)
    const fillSeconds = await filled(world, 'reported.firmware exists', twins)
    await filled(world, 'latest.temperature exists', twins)
    const rows: Row[] = []
    for (const [what, filter] of Object.entries(filters)) {
      const measured = await world.measure(() => pathOf(filter), { times: context.quick ? 40 : 200, warmUp: 20 })
      const { devices: found } = JSON.parse(measured.body) as { devices: readonly unknown[] }
      rows.push({ section: 'search', what: `${what}, ${twins} twins, ${profile}`, figures: { 'found (first page)': found.length, 'p50 ms': measured.p50Ms, 'p99 ms': measured.p99Ms, 'filled after the start, s': fillSeconds } })
    }
    return rows
  } finally {
    await world.close()
  }
}
