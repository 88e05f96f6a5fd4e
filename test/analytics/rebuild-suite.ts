/** What a rebuild keeps, on whatever engine of ClickHouse: afterwards every row is as in a projection that was never interrupted. */
import type { Test } from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { usPerDay, usPerHour, usPerMinute } from '../../src/core/reading.js'
import { bucketOf } from '../../src/series/partition-plan.js'
import { openStore } from '../../src/store/open-store.js'
import type { ClickHouseSettings } from '../../workers/protocol.js'
import { seededRandom, type Random } from '../../simulators/fleet/seeded-random.js'
import { dayAgo, planOfWidth, SealWorld, type Sent } from '../sealing/seal-world.js'
import { deviceOf, newSeed } from '../store/store-fixtures.js'
import { temporaryDirectory } from '../support/server.js'
import { newTestName } from '../support/services.js'
import { died, Follower, ProjectionWorld } from './projection-world.js'

const tenant = 'acme'
const start = dayAgo(40)
const plans = new Map([
  ['wide', planOfWidth(43_200)], ['day', planOfWidth(1440)], ['hour', planOfWidth(60)], ['minute', planOfWidth(1)], ['salted', planOfWidth(1440, 4)], ['gone', planOfWidth(1440)]
])
const tables = ['points', 'tiers_1h', 'devices'] as const

class Scene {
  readonly world: ProjectionWorld
  readonly random: Random
  /** Never interrupted. */
  readonly reference: Follower
  readonly subject: Follower
  #step = 0

  constructor (world: ProjectionWorld, random: Random, reference: Follower, subject: Follower) {
    this.world = world
    this.random = random
    this.reference = reference
    this.subject = subject
  }

  /** Points of all devices: new ones, late ones, some twice, some corrected. */
  async send (devices = [...plans.keys()]): Promise<void> {
    const { random } = this
    const readings: Sent[] = []
    const now = start + this.#step++ * 3 * usPerHour
    for (const device of devices) {
      for (let i = 0; i < 12; i++) {
        const ts = Math.floor(random() < 0.2 ? start + random() * (now - start + 1) : now + i * 14 * usPerMinute / (device === 'minute' ? 20 : 1))
        const values = {
          temperature: Math.round(random() * 1000) / 10,
          ...(random() < 0.4 ? { open: random() < 0.5 } : {}), ...(random() < 0.3 ? { state: ['on', 'off', 'idle'][Math.floor(random() * 3)] } : {}),
          ...(random() < 0.2 ? { mixed: random() < 0.5 ? 'text' : Math.PI * random() } : {})
        }
        readings.push({ device, ts: ts - ts % 1000, values })
      }
    }
    readings.push(readings[0], { ...readings[1], values: { temperature: -1 } })
    await this.world.send(readings)
  }

  /** A metric and range of a device, or all of it; analytics hears of it, the buckets are sealed again later. */
  async erase (device: string, part: { metric?: string, fromTs?: number, toTs?: number } = {}): Promise<void> {
    const { world, store } = this.world
    const stamp = world.takeStamps(1)
    const erasure = { tenant, device, stamp, ...part }
    await store.putErasure(erasure)
    const plan = world.planOf(device)
    const buckets = new Map<number, ReturnType<typeof bucketOf>>()
    for (let ts = start; ts < start + 10 * usPerDay; ts += usPerMinute * (device === 'minute' ? 1 : 30)) {
      const bucket = bucketOf(plan, ts)
      buckets.set(bucket.start, bucket)
    }
    await store.putSealRequests([...buckets.values()].map(bucket => ({ tenant, device, bucket, stamp: world.takeStamps(1) })))
    for (const { analytics } of [this.reference, this.subject]) await analytics.erase([erasure])
  }

  async compare (t: Test, text: string): Promise<void> {
    await this.reference.project()
    await this.subject.project()
    for (const table of tables) {
      const expected = await this.reference.rows(table, tenant)
      t.ok(expected.length >= plans.size - 1, `${table}: ${expected.length} rows`)
      t.strictSame(await this.subject.rows(table, tenant), expected, `${text}: ${table}`)
    }
  }
}

async function setUp (t: Test, settings: Omit<ClickHouseSettings, 'database'>, text: string): Promise<Scene> {
  const seed = newSeed()
  t.comment(`${text}: seed ${seed}`)
  const { directory, remove } = await temporaryDirectory('rebuild')
  const flag = new SharedArrayBuffer(1)
  new Uint8Array(flag)[0] = 1
  const store = await openStore({ kind: 'embedded', directory, outbox: flag }, { clock: systemClock, log: silentLog, writer: true })
  const world = new ProjectionWorld(await SealWorld.make(store, { tenant, devices: plans }))
  const followers = [0, 1].map(() => new Follower(world, { ...settings, database: newTestName() }))
  t.teardown(async () => {
    for (const follower of followers) await follower.drop()
    await store.close()
    await remove()
  })
  const scene = new Scene(world, seededRandom(seed), followers[0], followers[1])
  const { reference, subject } = scene
  for (let step = 0; step < 6; step++) {
    await scene.send()
    if (step % 2 === 1) await world.seal()
    if (step === 2) await scene.erase('hour', { metric: 'temperature', fromTs: start + usPerHour, toTs: start + 5 * usPerHour })
    await reference.project()
    if (step < 4) await subject.project()
  }
  await store.updateDevice({ ...deviceOf(tenant, 'day'), tags: { site: 'nörth "1"', line: '2' } })
  await scene.erase('gone')
  await store.deleteDevice(tenant, 'gone')
  // Erased after its seal and not sealed again yet.
  await scene.erase('day', { metric: 'temperature', fromTs: start + 2 * usPerHour, toTs: start + 3 * usPerHour + 7 })
  await scene.send(['wide', 'day', 'hour', 'minute', 'salted'])
  await reference.project()
  await reference.upkeep()
  return scene
}

export function rebuildSuite (t: Test, settings: () => Promise<Omit<ClickHouseSettings, 'database'>>): void {
  void t.test('a rebuild after all was lost, while points come in, gives every row of a projection that was never broken', async t => {
    const scene = await setUp(t, await settings(), 'lost')
    const { world, subject, reference } = scene
    for (const table of tables) await subject.run(`TRUNCATE TABLE {database}.${table}`)
    subject.onPiece = async when => {
      if (when === 'before') await scene.send(['wide', 'hour', 'minute'])
      else await world.seal()
      await subject.project()
      await reference.project()
    }
    t.match(await subject.rebuild().run(null), { state: 'done', damaged: 0 })
    await scene.compare(t, 'after the rebuild')
    await world.seal()
    await scene.send(['wide'])
    await scene.compare(t, 'and after more')
  })

  void t.test('a rebuild takes away what has no point behind it, also what was written a moment before it, and nothing else', async t => {
    const scene = await setUp(t, await settings(), 'phantoms')
    const { world, subject, reference } = scene
    await subject.project()
    // Some seals are minutes old, and their rows were written long ago by their clock; background merges may come at any time.
    for (const table of ['points', 'tiers_1h']) {
      await subject.run(`INSERT INTO {database}.${table} SELECT * REPLACE (toDateTime(1700000000, 'UTC') AS written) FROM {database}.${table} FINAL`)
      for (const [metric, written] of [['old', 'toDateTime(1700000000, \'UTC\')'], ['young', 'now(\'UTC\')']]) {
        await subject.run(`INSERT INTO {database}.${table} SELECT * REPLACE ('${metric}' AS metric, ${written} AS written) FROM {database}.${table} WHERE metric = 'temperature'`)
      }
    }
    await subject.run("INSERT INTO {database}.devices SELECT * REPLACE ('ghost' AS device) FROM {database}.devices FINAL")
    await new Promise(resolve => { setTimeout(resolve, 1100) })
    subject.onPiece = async when => {
      if (when === 'before') return
      for (const table of ['points', 'tiers_1h']) await subject.run(`OPTIMIZE TABLE {database}.${table} FINAL`)
      await scene.send(['salted'])
      await subject.project()
      await reference.project()
    }
    t.match(await subject.rebuild(3_000_000).run(null), { state: 'done' })
    await scene.compare(t, 'after the rebuild')
    await world.seal()
    await scene.compare(t, 'and after the next seals')
  })

  void t.test('a rebuild that died again and again and went on has the same outcome', async t => {
    const scene = await setUp(t, await settings(), 'died')
    const { world, subject } = scene
    for (const table of tables) await subject.run(`TRUNCATE TABLE {database}.${table}`)
    let deaths = 0
    for (let attempt = 0; ; attempt++) {
      let piece = 0
      subject.onPiece = async when => {
        piece++
        if (piece === 2) await world.seal()
        if (piece === 3) await scene.send(['hour', 'salted'])
        // Before or after its work; later in every attempt, so that it gets through.
        if (piece > attempt && (attempt % 2 === 0) === (when === 'before')) throw died()
      }
      const failure = await subject.rebuild().run(null).then(({ state }) => state === 'done' ? null : state, (error: Error) => error.message)
      if (failure === null) break
      deaths++
      subject.restart()
      if (attempt % 2 === 0) await subject.project()
    }
    t.ok(deaths >= 2, `${deaths} deaths`)
    await scene.compare(t, 'after the last one')
  })
}
