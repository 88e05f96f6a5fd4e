/**
 * Queries in other threads all the while a device is written, merged, sealed and sealed again: every window is what its points were
 * at some moment between the question and the answer. Nothing vanishes while it moves, and nothing is counted twice. The windows of
 * one answer need not be of the same moment: a write that comes meanwhile may be in one and not yet in another.
 */
import t from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { usPerDay, usPerHour } from '../../src/core/reading.js'
import { QueryPool } from '../../src/query/query-pool.js'
import { parseStep, type Step } from '../../src/series/steps/step.js'
import { openStore } from '../../src/store/open-store.js'
import { World } from './windows-world.js'

const start = Date.UTC(2026, 2, 1) * 1000
const days = 100
const runMs = 9000

/** Windows by start: number and sum of the points. */
type Totals = ReadonlyMap<number, string>

void t.test('what is asked while buckets are sealed and points come late is in every window what was there at one moment of the question', { timeout: 120_000 }, async t => {
  const seed = Number(process.env.TEST_SEED ?? Date.now() % 1e9)
  const random = seededRandom(seed)
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-reads-'))
  const store = await openStore({ kind: 'embedded', directory }, { clock: systemClock, log: silentLog, writer: true })
  const pool = new QueryPool({ store: { kind: 'embedded', directory }, threads: 2, waitingMax: 100, timeoutMs: 20_000 })
  t.teardown(async () => {
    await pool.close()
    await store.close()
    rmSync(directory, { recursive: true, force: true })
  })
  const world = new World(store, { tenant: 'acme', startStamp: start + 200 * usPerDay, remembers: false })
  await world.open()
  await store.createDevice({ tenant: 'acme', id: 'd', type: '', name: '', gateway: false, gatewayId: null, createdAt: 0 })

  const points = new Map<number, number>()
  const totals = (widthUs: number): Totals => {
    const windows = new Map<number, [number, number]>()
    for (const [ts, value] of points) {
      const window = Math.floor(ts / widthUs) * widthUs
      const [count, sum] = windows.get(window) ?? [0, 0]
      windows.set(window, [count + 1, sum + value])
    }
    return new Map([...windows].map(([window, pair]) => [window, pair.join()]))
  }
  /** What was there after each write. */
  const versions: { readonly '1h': Totals, readonly '1d': Totals }[] = [{ '1h': new Map(), '1d': new Map() }]
  let begun = 0
  let done = 0
  let seals = 0
  const until = performance.now() + runMs
  const write = async (): Promise<void> => {
    // Later and later months: their windows appear while listings of the others are known. Now and then a point of long ago.
    const share = Math.min(1, 1 - (until - performance.now()) / runMs)
    const day = random() < 0.3 ? Math.floor(random() * 3) : Math.floor(share * (days - 6)) + Math.floor(random() * 3)
    // Dense readings of a bucket are one chunk, seen as one. Sparse ones are slabs, one a minute, seen one by one while they are written: here one a day.
    const dense = random() < 0.5
    const readings = Array.from({ length: 1 + Math.floor(random() * (dense ? 12 : 3)) }, (_, i) => ({
      ts: start + (dense ? day : day + i) * usPerDay + Math.floor(random() * 1440) * 60e6, values: [['t', Math.floor(random() * 1000)]] as const
    }))
    for (const { ts, values: [[, value]] } of readings) points.set(ts, value)
    versions.push({ '1h': totals(usPerHour), '1d': totals(usPerDay) })
    begun++
    await world.write(readings, dense ? 1 : 8)
    done++
  }
  const change = async (): Promise<void> => {
    while (performance.now() < until) {
      await write()
      if (random() < 0.5) await world.mergeSlabs()
      if (random() < 0.7) {
        for (const bucket of await world.unsealed(start, start + days * usPerDay)) {
          await world.seal(bucket, random() < 0.1)
          seals++
        }
      }
      await new Promise(resolve => { setTimeout(resolve, random() * 20) })
    }
  }
  let answers = 0
  let fromTier = 0
  const ask = async (): Promise<void> => {
    while (performance.now() < until) {
      const step = random() < 0.5 ? '1h' : '1d'
      const first = done
      const result = await pool.run({
        kind: 'aggregate', ...world.scope(), wanted: [{ metric: 't', aggs: ['count', 'sum'] }], step: parseStep(step) as Step, zone: 'UTC', fromTs: start, toTs: start + days * usPerDay,
        nowTs: start + days * usPerDay, fill: 'none', times: 'ms', valuesMax: 1e6
      })
      const last = begun
      const answer = JSON.parse(`{${new TextDecoder().decode(result.body)}}`) as { tier: string, windows: number[], series: { values: number[] }[] }
      const found = new Map(answer.windows.map((ms, i) => [ms * 1000, answer.series.map(({ values }) => values[i]).join()]))
      answers++
      if (answer.tier === step) fromTier++
      const wrong = differing(found, versions.slice(first, last + 1).map(version => version[step]))
      if (wrong.length > 0) t.fail(`${step}, seed ${seed}: ${wrong.slice(0, 8).join('; ')}`)
    }
  }
  await Promise.all([change(), ask(), ask(), ask()])
  t.equal(fromTier, answers)
  t.ok(answers > 30 && seals > 10 && done > 10, `${answers} answers, ${done} writes, ${seals} seals`)
  t.comment(`${answers} answers, ${done} writes, ${seals} seals`)
})

/** Windows that are as in none of the versions. */
function differing (found: Totals, versions: readonly Totals[]): string[] {
  return [...new Set([...found.keys(), ...versions.flatMap(version => [...version.keys()])])]
    .filter(window => !versions.some(version => version.get(window) === found.get(window)))
    .map(window => `${new Date(window / 1000).toISOString()}: ${found.get(window)} instead of ${versions.map(version => version.get(window)).join(' or ')}`)
}
