import t from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { usPerDay, usPerHour, usPerMinute, usPerSecond } from '../../src/core/reading.js'
import { parseStep, type Step } from '../../src/series/steps/step.js'
import { openStore } from '../../src/store/open-store.js'
import type { DeviceScope } from '../../workers/query-protocol.js'
import { differences, World } from './windows-world.js'

/** Which tier answers, and that the answer is the same from each. */
const start = Date.UTC(2026, 4, 4) * 1000
const days = 3

async function newWorld (t: { teardown(undo: () => unknown): unknown }): Promise<World> {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-tiers-'))
  const store = await openStore({ kind: 'embedded', directory }, { clock: systemClock, log: silentLog, writer: true })
  t.teardown(async () => { await store.close(); rmSync(directory, { recursive: true, force: true }) })
  const world = new World(store, { tenant: 'acme', startStamp: start + 30 * usPerDay })
  await world.open()
  const minutes = days * 24 * 60
  await world.write(Array.from({ length: minutes }, (_, i) => ({ ts: start + i * usPerMinute + 7 * usPerSecond, values: [['t', Math.round(Math.sin(i / 200) * 1000) / 10], ['n', i % 1000], ['on', i % 7 < 3]] as const })))
  return world
}

async function sealAll (world: World): Promise<void> {
  for (const bucket of await world.unsealed(start, start + days * usPerDay)) await world.seal(bucket)
}

const question = (step: string, more: object = {}): Parameters<World['ask']>[0] => ({
  wanted: [{ metric: 't', aggs: ['avg', 'max', 'stddev', 'twa'] }, { metric: 'n', aggs: ['delta', 'count'] }, { metric: 'on', aggs: ['timeIn', 'changes'] }],
  step: parseStep(step) as Step, zone: 'UTC', fromTs: start, toTs: start + days * usPerDay, nowTs: start + 10 * usPerDay, fill: 'none', ...more
})

void t.test('the coarsest tier that fits answers, and says so; each tier gives the same', async t => {
  const world = await newWorld(t)
  await sealAll(world)
  for (const [step, zone, tier, edges] of [
    ['10s', 'UTC', 'raw', undefined], ['5m', 'UTC', '1m', undefined], ['90m', 'UTC', '1m', undefined], ['2h', 'UTC', '1h', undefined], ['1d', 'UTC', '1d', undefined], ['1w', 'UTC', '1d', undefined],
    ['1d', 'Europe/Berlin', '1h', undefined], ['1d', 'Asia/Kolkata', '1h', '1m'], ['1mo', 'America/St_Johns', '1d', '1m']
  ] as const) {
    const asked = question(step, { zone, ...step === '10s' ? { toTs: start + usPerHour } : {} })
    const answer = await world.ask(asked)
    t.same([answer.tier, answer.edges], [tier, edges], `${step} ${zone}`)
    t.same(differences(answer, world.expected(asked)), [], `${step} ${zone}`)
    t.same((await world.ask({ ...asked, source: 'raw' })).tier, 'raw')
    t.same(differences(await world.ask({ ...asked, source: 'raw' }), world.expected(asked)), [], `${step} ${zone} from raw`)
  }
  await t.rejects(world.ask(question('5m', { source: '1h' })), { code: 'invalid_field', field: 'tier' })
})

void t.test('quantiles of an hour and more come from sketches within 1 %, shorter ones are exact', async t => {
  const world = await newWorld(t)
  await sealAll(world)
  const asked = (step: string, zone = 'UTC'): Parameters<World['ask']>[0] => question(step, { zone, wanted: [{ metric: 't', aggs: ['p1', 'p50', 'p95', 'p99.9'] }, { metric: 'on', aggs: ['p50'] }] })
  for (const [step, zone, tier, error] of [['5m', 'UTC', 'raw', undefined], ['1h', 'UTC', '1h', 0.01], ['1d', 'UTC', '1d', 0.01], ['1d', 'Asia/Kolkata', '1h', 0.01], ['1w', 'Europe/Berlin', '1h', 0.01]] as const) {
    const answer = await world.ask(asked(step, zone))
    t.equal(answer.tier, tier, step)
    t.ok(answer.series.length === 4 && answer.series.every(series => series.error === error), 'a boolean has none')
    t.same(differences(answer, world.expected(asked(step, zone))), [], `${step} ${zone}`)
  }
})

void t.test('where raw has expired the tiers answer alone, and a shorter tier gives way to a finer one that is kept longer', async t => {
  const world = await newWorld(t)
  await sealAll(world)
  const whole = world.expected(question('1h'))
  const scope: Partial<DeviceScope> = { oldestTs: start + 2 * usPerDay + 5 * usPerHour }
  const answer = await world.ask(question('1h', { wanted: [{ metric: 't', aggs: ['avg', 'max', 'stddev'] }, { metric: 'n', aggs: ['count'] }] }), scope)
  t.equal(answer.windows.length, days * 24)
  t.same(differences(answer, new Map([...whole].filter(([key]) => /avg|max|stddev|count/.test(key)))), [])
  const mixed = await world.ask(question('1h', { wanted: [{ metric: 't', aggs: ['max'] }] }), { oldestTs: start + usPerDay, tierOldestTs: { '1m': start + usPerDay, '1h': start + 2 * usPerDay, '1d': 0 } })
  t.equal(mixed.tier, '1m')
  t.same(mixed.tiers?.map(({ tier }) => tier), ['1m', '1h'])
  t.equal(mixed.windows[0], start + usPerDay, 'nothing from before any retention')
  t.equal(mixed.windows.length, 48)
})

void t.test('a late point is in every window at once, and only windows that it touches leave the tier', async t => {
  const world = await newWorld(t)
  await sealAll(world)
  await world.write([{ ts: start + usPerDay + 90 * usPerMinute + 1, values: [['t', 777]] }], 1)
  for (const step of ['1m', '1h', '1d', '1w']) {
    const asked = question(step)
    t.same(differences(await world.ask(asked), world.expected(asked)), [], step)
  }
  await world.mergeSlabs()
  t.same(differences(await world.ask(question('1h')), world.expected(question('1h'))), [], 'merged into the head')
  await sealAll(world)
  t.same(differences(await world.ask(question('1h')), world.expected(question('1h'))), [], 'sealed again')
})

void t.test('an erasure is obeyed at once by rows that do not know it, also where raw is gone', async t => {
  const world = await newWorld(t)
  await sealAll(world)
  await world.erase({ metric: 't', fromTs: start + usPerHour, toTs: start + usPerDay + 10 * usPerMinute })
  for (const step of ['5m', '1h', '1d']) t.same(differences(await world.ask(question(step)), world.expected(question(step))), [], step)
  const gone = await world.ask(question('1h', { wanted: [{ metric: 't', aggs: ['count'] }, { metric: 'n', aggs: ['count'] }] }), { oldestTs: start + 20 * usPerDay })
  const counts = gone.series.find(({ metric }) => metric === 't')?.values as (number | null)[]
  t.same(counts.slice(1, 25), new Array(24).fill(null), 'erased windows that cannot be folded again are empty')
  t.ok(gone.series.find(({ metric }) => metric === 'n')?.values.every(count => count === 60), 'other metrics stay')
  for (let day = 0; day < days; day++) await world.seal({ start: start + day * usPerDay, widthMinutes: 1440 }, true)
  t.same(differences(await world.ask(question('1h')), world.expected(question('1h'))), [], 'resealed')
})

void t.test('fills say what stands in windows without a point', async t => {
  const world = await newWorld(t)
  const asked = { ...question('1h'), wanted: [{ metric: 'x', aggs: ['avg'] }], fromTs: start, toTs: start + 5 * usPerHour }
  await world.write([{ ts: start + usPerHour, values: [['x', 10]] }, { ts: start + 3 * usPerHour, values: [['x', 20]] }], 1)
  for (const [fill, values] of [['none', [10, 20]], ['null', [null, 10, null, 20, null]], ['previous', [null, 10, 10, 20, 20]], ['linear', [null, 10, 15, 20, null]], [0, [0, 10, 0, 20, 0]]] as const) {
    t.same((await world.ask({ ...asked, fill })).series[0].values, values, String(fill))
  }
})

void t.test('pages join into the whole answer, rates across their borders included', async t => {
  const world = await newWorld(t)
  const asked = question('1h', { wanted: [{ metric: 'n', aggs: ['delta', 'rate'] }, { metric: 't', aggs: ['twa'] }] })
  const found: string[] = []
  for (let fromTs = start; fromTs < start + days * usPerDay; fromTs += 7 * usPerHour) {
    const page = await world.ask({ ...asked, fromTs, limit: 7 })
    const part = new Map([...world.expected(asked)].map(([key, values]) => [key, new Map([...values].filter(([window]) => window >= page.from && window < page.to))]))
    found.push(...differences(page, part))
  }
  t.same(found, [])
})

void t.test('an answer that would be too long is refused with the step that would do', async t => {
  const world = await newWorld(t)
  await t.rejects(world.ask({ ...question('1m'), valuesMax: 1000 }), { code: 'invalid_field', field: 'step', message: /smallest step .* is [0-9]+[mh]/ })
})
