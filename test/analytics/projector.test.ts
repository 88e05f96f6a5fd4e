/** The projection in every interleaving: what was packed is in analytics, once, with the value accepted last. */
import t from 'tap'
import { Projector, projectionCursors } from '../../src/analytics/projector.js'
import type { ProjectTaskLimits } from '../../src/analytics/project-task.js'
import type { Clock } from '../../src/core/clock.js'
import { silentLog, type Log } from '../../src/core/log.js'
import { usPerDay } from '../../src/core/reading.js'
import { newSeed, randomFrom } from '../store/store-fixtures.js'
import { journalId, MemoryWorld } from './memory-world.js'

const smallSteps: ProjectTaskLimits = { pageEntries: 2, pointsMax: 20, entriesMax: 3, insertPointsMax: 5, insertTextCharsMax: 40 }
const largeSteps: ProjectTaskLimits = { pageEntries: 32, pointsMax: 10_000, entriesMax: 1000, insertPointsMax: 1000, insertTextCharsMax: 1e6 }

class TestClock implements Clock {
  us = 1_800_000_000_000_000
  nowUs (): number { return this.us }
  monotonicMs (): number { return this.us / 1000 }
}

function projectorOf (world: MemoryWorld, { limits = largeSteps, clock = new TestClock(), log = silentLog }: { limits?: ProjectTaskLimits, clock?: Clock, log?: Log } = {}): Projector {
  return new Projector({
    journalId, packer: world.packer, stampNow: () => world.takeStamps(1), sealsSettled: () => world.takeStamps(1), cursors: world, pool: { project: async task => await world.project(task, limits) }, clock, log, intervalMs: 1000
  })
}

/** A projection of merges sees its clock near theirs. */
function clockOf (world: MemoryWorld): Clock {
  return { nowUs: () => world.takeStamps(1), monotonicMs: () => 0 }
}

async function settle (world: MemoryWorld, projector: Projector): Promise<void> {
  world.faults = 0
  world.bustle = 0
  for (let i = 0; i < 100; i++) world.packSome()
  if (await projector.runOnce() !== null) throw new Error('the last round failed')
}

const runs = 120

t.test(`nothing is missing, nothing is older than it should be, whatever happens between any two steps (${runs} histories)`, { timeout: 120_000 }, async t => {
  let restarts = 0
  let failures = 0
  let passed = 0
  let missing = 0
  for (let run = 0; run < runs; run++) {
    const seed = newSeed()
    const random = randomFrom(seed)
    const world = new MemoryWorld(random)
    const limits = random() < 0.5 ? smallSteps : largeSteps
    let projector = projectorOf(world, { limits, clock: clockOf(world) })
    await projector.runOnce()
    world.faults = random() < 0.3 ? 0 : random() * 0.2
    world.bustle = random() * 0.3
    for (let i = 0; i < 12; i++) {
      for (let n = Math.floor(random() * 8); n > 0; n--) world.happen()
      if (await projector.runOnce() !== null) failures++
      if (random() < 0.2) {
        // The process dies: what was not written down is forgotten.
        passed += projector.stats.rowsPassed
        missing += projector.stats.rowsMissing
        projector = projectorOf(world, { limits, clock: clockOf(world) })
        restarts++
      }
    }
    await settle(world, projector)
    passed += projector.stats.rowsPassed
    missing += projector.stats.rowsMissing
    const found = world.analytics.readable()
    const expected = world.expected.readable()
    if (found.join('\n') !== expected.join('\n')) {
      t.strictSame(found, expected, `seed ${seed}`)
      return
    }
    if (projector.status.state !== 'up' || projector.status.lagSeconds !== 0) t.match(projector.status, { state: 'up', lagSeconds: 0 }, `seed ${seed}`)
  }
  t.comment(`${restarts} restarts, ${failures} failed rounds, ${missing} rows were elsewhere, ${passed} merged rows passed over`)
  t.ok(restarts > runs && failures > runs && missing > runs && passed > runs, 'and the histories held what they are to show')
})

t.test('what is projected is not inserted again when its slabs are merged', async t => {
  const world = new MemoryWorld(randomFrom(1))
  const projector = projectorOf(world, { clock: clockOf(world) })
  for (let i = 0; i < 50; i++) { world.closeSlice(); world.packSome() }
  for (let i = 0; i < 50; i++) world.packSome()
  await projector.runOnce()
  const { inserted } = world
  t.ok(inserted > 100)
  for (let i = 0; i < 50; i++) world.mergeSome()
  t.equal(await projector.runOnce(), null)
  t.equal(world.inserted, inserted)
  t.ok(projector.stats.rowsPassed > 10)
  t.strictSame(world.analytics.readable(), world.expected.readable())
})

t.test('points that were erased are left out', async t => {
  const world = new MemoryWorld(randomFrom(2))
  const projector = projectorOf(world, { clock: clockOf(world) })
  for (let i = 0; i < 30; i++) { world.closeSlice(); world.packSome() }
  world.erasures.set('d1', world.takeStamps(1))
  const stamp = world.takeStamps(1)
  for (let i = 0; i < 30; i++) { world.closeSlice(); world.packSome() }
  await settle(world, projector)
  const kept = [...world.analytics.byKey.values()].filter(point => point.device === 'd1')
  t.ok(kept.length > 0 && kept.every(point => point.stamp > stamp))
  t.strictSame([...world.analytics.byKey.values()].filter(point => point.device !== 'd1').length, [...world.expected.byKey.values()].filter(point => point.device !== 'd1').length)
})

t.test('the lag is the age of what waits, 0 when nothing does, and the state says what is away', async t => {
  const world = new MemoryWorld(randomFrom(3))
  const clock = new TestClock()
  const projector = projectorOf(world, { clock })
  t.match(projector.status, { state: 'up', reason: '', lagSeconds: 0 })
  world.closeSlice()
  world.packSome()
  world.faults = 1
  clock.us += 5e6
  t.match(await projector.runOnce(), { code: 'store_unavailable' })
  t.equal(projector.status.lagSeconds, 5)
  t.match(projector.stats, { entriesBehind: 1, bytesBehind: world.packer.cursor })
  world.faults = 0
  t.equal(await projector.runOnce(), null)
  t.match(projector.status, { state: 'up', lagSeconds: 0 })
  clock.us += 100e6
  t.equal(projector.status.lagSeconds, 0, 'an idle projection is not behind')
  t.match(projector.stats, { entriesBehind: 0, bytesBehind: 0 })
})

t.test('the state is down while analytics is away, retries go on by themselves, and up again after', { timeout: 20_000 }, async t => {
  const world = new MemoryWorld(randomFrom(4))
  const insert = world.insertPoints.bind(world)
  let away = true
  const warnings: string[] = []
  world.insertPoints = async points => {
    if (away) throw Object.assign(new Error('ClickHouse is not reachable'), { code: 'analytics_unavailable' })
    await insert(points)
  }
  world.project = async (task, limits) => {
    const result = await MemoryWorld.prototype.project.call(world, task, limits)
    return result.failure === null ? result : { ...result, failure: { code: 'analytics_unavailable', detail: 'ClickHouse is not reachable' } }
  }
  const projector = projectorOf(world, { clock: clockOf(world), log: { ...silentLog, warn: (_fields, message) => { warnings.push(message) } } })
  world.closeSlice()
  world.packSome()
  projector.open()
  t.teardown(async () => { await projector.close() })
  while (projector.stats.failures < 3) await new Promise(resolve => { setTimeout(resolve, 10) })
  t.match(projector.status, { state: 'down', reason: 'ClickHouse is not reachable' })
  t.equal(warnings.length, 1, 'one line for an outage')
  away = false
  while (projector.stats.rounds < 1) await new Promise(resolve => { setTimeout(resolve, 10) })
  t.match(projector.status, { state: 'up', reason: '', lagSeconds: 0 })
  t.strictSame(world.analytics.readable(), world.expected.readable())
})

t.test('a gap is declared loudly and stays declared: turned on late, or behind the outbox', async t => {
  const errors: object[] = []
  const log: Log = { ...silentLog, error: fields => { errors.push(fields) } }
  const late = new MemoryWorld(randomFrom(5))
  late.closeSlice()
  late.packSome()
  const first = projectorOf(late, { log })
  t.equal(await first.runOnce(), null)
  t.match(first.status, { state: 'gap', reason: /turned on after/ })
  const second = projectorOf(late, { log })
  await second.runOnce()
  t.match(second.status, { state: 'gap' }, 'after a restart too')
  t.equal(errors.length, 1)

  const behind = new MemoryWorld(randomFrom(6))
  const clock = new TestClock()
  const before = projectorOf(behind, { clock, log })
  behind.closeSlice()
  behind.packSome()
  await before.runOnce()
  t.match(before.status, { state: 'up' })
  clock.us += 8 * usPerDay
  await before.runOnce()
  t.match(before.status, { state: 'up' }, 'time alone makes none')
  const restarted = projectorOf(behind, { clock, log })
  behind.closeSlice()
  behind.packSome()
  clock.us += 1e6
  await restarted.runOnce()
  t.match(restarted.status, { state: 'up' }, 'nor does a server that was off with nothing waiting')
  behind.closeSlice()
  behind.packSome()
  behind.faults = 1
  clock.us += 7 * usPerDay
  await restarted.runOnce()
  behind.faults = 0
  const after = projectorOf(behind, { clock, log })
  await after.runOnce()
  t.match(after.status, { state: 'gap', reason: /rebuilt/ })
  t.equal(behind.cursors.get(projectionCursors.gap), 2)
})
