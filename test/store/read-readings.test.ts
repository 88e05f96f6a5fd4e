import t, { type Test } from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { usPerDay, usPerMinute, usPerSecond, type Value } from '../../src/core/reading.js'
import { groupSlice, orderByDevice } from '../../src/pipeline/group.js'
import { SlabMerge } from '../../src/pipeline/merge-slabs.js'
import { SeenCache } from '../../src/pipeline/seen-cache.js'
import { SliceTable } from '../../src/pipeline/slice-table.js'
import { planLookup } from '../../src/pipeline/task-lookup.js'
import { QueryRunner } from '../../src/query/run-query.js'
import { defaultPlan, type PartitionPlan } from '../../src/series/partition-plan.js'
import { openStore } from '../../src/store/open-store.js'
import type { Store } from '../../src/store/store.js'
import type { RangeQuery } from '../../workers/protocol.js'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import { fillTable, type SentReading } from '../pipeline/fill-table.js'

/**
 * Random slices, repeated slices, late and duplicate points, merges in between, plans that change: every answer must equal a
 * model that is a map from (device, ts, metric) to the value accepted last.
 */
const seed = Number(process.env.TEST_SEED ?? Date.now() % 1e9)
const start = Date.UTC(2026, 5, 10, 11) * 1000
const devices = ['a', 'ab', 'b', 'hot']
const metrics = ['t', 'p', 'mode']
const retention = { retentionDays: [30], oldestTs: 0 }

type Model = Map<string, Map<number, Map<string, Value>>>

async function writeSlice (store: Store, readings: readonly SentReading[], mark: number, plans: ReadonlyMap<string, PartitionPlan>): Promise<void> {
  const table = new SliceTable()
  fillTable(table, 'acme', readings)
  const { order, starts } = orderByDevice(table)
  await store.raw.writeHead(groupSlice(table, order, starts, {
    slice: { journalId: '00000000000000aa', mark }, stamp: start, planOf: key => plans.get(key.slice(key.indexOf('\0') + 1)) ?? defaultPlan, retentionDaysOf: () => 30, seen: new SeenCache({ devicesMax: 10 })
  }))
}

function remember (model: Model, readings: readonly SentReading[]): void {
  for (const { device, ts, values } of readings) {
    let byTime = model.get(device)
    if (byTime === undefined) model.set(device, byTime = new Map())
    let reading = byTime.get(ts)
    if (reading === undefined) byTime.set(ts, reading = new Map())
    for (const [metric, value] of values) reading.set(metric, value)
  }
}

function expectedRange (model: Model, query: RangeQuery): string[] {
  const rows: [number, string][] = []
  for (const [ts, values] of model.get(query.device) ?? []) {
    if (ts < query.fromTs || ts >= query.toTs) continue
    const kept = [...values].filter(([metric]) => query.metrics === null || query.metrics.includes(metric)).sort(([a], [b]) => a < b ? -1 : 1)
    if (kept.length > 0) rows.push([ts, `${ts} ${JSON.stringify(kept)}`])
  }
  rows.sort(([a], [b]) => query.order === 'asc' ? a - b : b - a)
  return rows.map(([, text]) => text)
}

async function answerRange (store: Store, query: RangeQuery): Promise<{ rows: string[], lastTs: number | null, more: boolean }> {
  const result = await new QueryRunner(store, { clock: systemClock }).run(query)
  const readings = JSON.parse(new TextDecoder().decode(result.body)) as { ts: number, values: Record<string, Value> }[]
  return {
    rows: readings.map(({ ts, values }) => `${Math.round(ts * 1000)} ${JSON.stringify(Object.entries(values).sort(([a], [b]) => a < b ? -1 : 1))}`),
    lastTs: result.lastTs,
    more: result.more
  }
}

/** All pages of a query, `limit` readings at a time, as the HTTP edge follows its cursor. */
async function answerPaged (store: Store, query: RangeQuery): Promise<string[]> {
  const rows: string[] = []
  let page = query
  for (;;) {
    const answer = await answerRange(store, page)
    rows.push(...answer.rows)
    if (!answer.more || answer.lastTs === null) return rows
    page = query.order === 'asc' ? { ...page, fromTs: answer.lastTs + 1 } : { ...page, toTs: answer.lastTs }
  }
}

t.test(`every answer equals the model, whatever is late, repeated, merged or re-planned (seed ${seed})`, async t => {
  const random = seededRandom(seed)
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-read-'))
  const store = await openStore({ kind: 'embedded', directory }, { clock: systemClock, log: silentLog, writer: true })
  t.teardown(async () => { await store.close(); rmSync(directory, { recursive: true, force: true }) })
  const slabMerge = new SlabMerge({ store, plans: planLookup(store, { leaseMs: 1000, rememberedMax: 100 }), monotonicMs: () => 0, nowUs: () => 0 })
  const plans = new Map<string, PartitionPlan>([
    ['hot', { widths: [{ fromTs: 0, widthMinutes: 1440 }, { fromTs: start + 20 * usPerMinute, widthMinutes: 1 }, { fromTs: start + 40 * usPerMinute, widthMinutes: 60 }], salts: [{ fromStamp: 0, salts: 3 }] }]
  ])
  for (const [device, plan] of plans) t.ok(await store.putPlanIfVersion('acme', device, plan, 0))
  const model: Model = new Map()
  let stamp = start
  for (let mark = 1; mark <= 40; mark++) {
    const readings: SentReading[] = []
    const count = 1 + Math.floor(random() * 120)
    for (let i = 0; i < count; i++) {
      const device = random() < 0.5 ? 'hot' : pick(devices)
      const late = random() < 0.1 ? -Math.floor(random() * 3 * usPerDay) : 0
      // Few distinct seconds, so that points of equal time meet often.
      const ts = start + Math.floor(random() * 3600) * usPerSecond + Math.floor(late / usPerSecond) * usPerSecond + (random() < 0.1 ? 1 : 0)
      const values = metrics.filter(() => random() < 0.6).map((metric): [string, Value] => [metric, metric === 'mode' ? pick(['on', 'off', '']) : random() < 0.05 ? random() < 0.5 : Math.round(random() * 100) / 10])
      if (values.length > 0) readings.push({ device, ts, stamp: stamp++, values })
    }
    if (readings.length === 0) continue
    await writeSlice(store, readings, mark * 1000, plans)
    if (random() < 0.2) await writeSlice(store, readings, mark * 1000, plans)
    remember(model, readings)
    if (random() < 0.25) await slabMerge.merge({ kind: 'merge', journalId: '00000000000000aa', before: Math.floor(random() * mark) * 1000, slabsMax: 50 })
    await compare(t, store, model, random)
  }
  await slabMerge.merge({ kind: 'merge', journalId: '00000000000000aa', before: 1e9, slabsMax: 1e6 })
  for (let round = 0; round < 20; round++) await compare(t, store, model, random)
  await compareLatest(t, store, model)
})

async function compare (t: Test, store: Store, model: Model, random: () => number): Promise<void> {
  const fromTs = start - 4 * usPerDay + Math.floor(random() * 4 * 24 * 60) * usPerMinute
  const query: RangeQuery = {
    kind: 'range', tenant: 'acme', ...retention, device: devices[Math.floor(random() * devices.length)], metrics: random() < 0.5 ? null : [metrics[Math.floor(random() * 3)]],
    fromTs, toTs: fromTs + Math.floor(random() * 4 * usPerDay), order: random() < 0.5 ? 'asc' : 'desc', limit: 10_000, times: 'ms'
  }
  const expected = expectedRange(model, query)
  const { rows } = await answerRange(store, query)
  if (rows.join('\n') !== expected.join('\n')) t.same(rows, expected, JSON.stringify(query))
  const paged = await answerPaged(store, { ...query, limit: 1 + Math.floor(random() * 50) })
  t.equal(paged.join('\n'), expected.join('\n'), `pages of ${query.device} ${query.order}, ${expected.length} readings`)
}

async function compareLatest (t: Test, store: Store, model: Model): Promise<void> {
  for (const device of devices) {
    const newest = new Map<string, [number, Value]>()
    for (const [ts, values] of model.get(device) ?? []) {
      for (const [metric, value] of values) if ((newest.get(metric)?.[0] ?? -1) < ts) newest.set(metric, [ts, value])
    }
    const { body } = await new QueryRunner(store, { clock: systemClock }).run({ kind: 'latest', tenant: 'acme', ...retention, device, metrics: null, times: 'ms' })
    const answer = JSON.parse(new TextDecoder().decode(body)) as Record<string, { ts: number, value: Value }>
    t.same(Object.fromEntries(Object.entries(answer).map(([metric, { ts, value }]) => [metric, [Math.round(ts * 1000), value]])), Object.fromEntries(newest), `latest of ${device}`)
  }
}

t.test('what was erased and what has expired is in no answer', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-read-'))
  const store = await openStore({ kind: 'embedded', directory }, { clock: systemClock, log: silentLog, writer: true })
  t.teardown(async () => { await store.close(); rmSync(directory, { recursive: true, force: true }) })
  const reading = (i: number): SentReading => ({ device: 'a', ts: start + i, stamp: start + i, values: [['t', i]] })
  await writeSlice(store, [0, 1, 2, 3].map(reading), 1, new Map())
  const range: RangeQuery = { kind: 'range', tenant: 'acme', ...retention, device: 'a', metrics: null, fromTs: 0, toTs: start + usPerDay, order: 'asc', limit: 10, times: 'ms' }
  t.equal((await answerRange(store, { ...range, oldestTs: start + 1 })).rows.length, 3, 'older than the retention')
  await store.putErasure({ tenant: 'acme', device: 'a', stamp: start + 3 })
  t.same((await answerRange(store, range)).rows, [`${start + 3} [["t",3]]`])
  const latest = await new QueryRunner(store, { clock: systemClock }).run({ kind: 'latest', tenant: 'acme', ...retention, device: 'a', metrics: null, times: 'ms' })
  t.same(JSON.parse(new TextDecoder().decode(latest.body)), { t: { ts: (start + 3) / 1000, value: 3 } })
  t.same((await answerRange(store, { ...range, tenant: 'other' })).rows, [], 'another tenant')
})
