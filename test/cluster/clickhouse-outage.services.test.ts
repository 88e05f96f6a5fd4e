/**
 * ClickHouse away under load, the process behind it killed (INVARIANTS 3, DESIGN 3.5): devices and their queries do not notice,
 * analytics says so, and afterwards it counts what the store holds, without gaps or doubles.
 */
import t from 'tap'
import { dropKeyspace } from '../support/keyspace.js'
import { OutageFleet, clusterSettings } from '../support/outage-fleet.js'
import { newTestName, services, skipWithout, startClickHouseFront } from '../support/services.js'

const devices = 20
const ratePerSecond = 25
/** Of the rate before the outage, in the same run: a shared machine may be busy, an outage must not be felt. */
const leastShare = 0.7
const outageMs = 10_000
const queryMsMax = 2000
const catchUpMs = 60_000

interface Status { readonly state: string, readonly reason: string, readonly lagSeconds: number }

t.test('ClickHouse killed for 10 s under load: device queries are unaffected, analytics says so and catches up', { timeout: 300_000 }, async t => {
  if (skipWithout(t, 'cassandra') || skipWithout(t, 'redis') || skipWithout(t, 'clickHouse')) return
  const { cassandra, redis } = services()
  const keyspace = newTestName()
  t.teardown(async () => { await dropKeyspace(keyspace) })
  const front = await startClickHouseFront()
  t.teardown(async () => { await front.close() })
  const settings = clusterSettings({
    contactPoints: [cassandra?.contactPoint ?? ''], dataCenter: cassandra?.dataCenter ?? '', redisUrl: redis?.url ?? '', keyspace, clickHouseUrl: front.url
    // Slabs are merged while analytics is away: what it finds afterwards is in two places.
  }, { TWINFOLD_MERGE_AFTER_MS: '2000' })
  const fleet = await OutageFleet.start(settings, { devices, ratePerSecond })
  t.teardown(async () => { await fleet.close() })
  const status = async (): Promise<Status> => (await fleet.timed('/analytics/status')).body as Status
  const counted = async (): Promise<{ points: number, devices: number }> => (await fleet.timed('/analytics/points?from=0&to=now%2B1d')).body as { points: number, devices: number }

  await fleet.ackedPerSecond(3000)
  const least = leastShare * await fleet.ackedPerSecond(5000)
  t.ok(least > 0, 'before')
  t.match(await status(), { state: 'up', reason: '' })
  t.ok((await counted()).points > 0, 'analytics follows')

  await front.kill()
  const startMs = performance.now()
  const ackedBefore = fleet.acked
  let said = 0
  while (performance.now() - startMs < outageMs) {
    await new Promise(resolve => { setTimeout(resolve, 500) })
    for (const path of ['/devices/d0/telemetry/latest', '/devices/d0/telemetry?limit=100']) {
      const answer = await fleet.timed(path)
      t.equal(answer.status, 200, 'device queries answer')
      t.ok(answer.tookMs < queryMsMax, `in ${Math.round(answer.tookMs)} ms`)
    }
    if ((await status()).state === 'down') said++
  }
  const ackedRate = (fleet.acked - ackedBefore) * 1000 / (performance.now() - startMs)
  t.ok(ackedRate > least, `acknowledgements go on: ${Math.round(ackedRate)} a second, at least ${Math.round(least)}`)
  t.ok(said > 3, 'the state is down, soon')
  const { reason, lagSeconds } = await status()
  t.match(reason, /ClickHouse/)
  t.notMatch(reason, /127\.0\.0\.1/, 'its address is not for tenants')
  t.ok(lagSeconds > 5, `the lag is measured: ${lagSeconds} s`)
  t.match(await fleet.timed('/analytics/points'), { status: 503, body: { code: 'analytics_unavailable', detail: /ClickHouse/ } })
  t.equal((await fleet.ready()).status, 200, 'ready for ingest all the same')

  await front.start()
  await fleet.ackedPerSecond(3000)
  const { acked, stored, missing, twice } = await fleet.settle()
  t.strictSame({ missing, twice }, { missing: [], twice: [] })
  const points = await storedPoints(fleet)
  const giveUpMs = performance.now() + catchUpMs
  while ((await counted()).points !== points && performance.now() < giveUpMs) await new Promise(resolve => { setTimeout(resolve, 200) })
  t.match(await counted(), { points, devices }, `${acked} acknowledged, ${stored} stored: as many points as the store holds`)
  // The state is that of the last whole round: the sealed hours come over after the points.
  for (let now = await status(); (now.lagSeconds > 0 || now.state !== 'up') && performance.now() < giveUpMs; now = await status()) await new Promise(resolve => { setTimeout(resolve, 200) })
  t.match(await status(), { state: 'up', reason: '', lagSeconds: 0 })
  await new Promise(resolve => { setTimeout(resolve, 6000) })
  t.match(await counted(), { points, devices }, 'and no more after the last merges')
})

/** Points of all devices as device queries give them. */
async function storedPoints (fleet: OutageFleet): Promise<number> {
  let points = 0
  for (const id of fleet.devices.keys()) {
    let next: string | null = null
    do {
      const path: string = `/devices/${id}/telemetry?from=0&to=now%2B1d&limit=10000${next === null ? '' : `&cursor=${encodeURIComponent(next)}`}`
      const { body } = await fleet.timed(path)
      const page = body as { readings: { values: object }[], next: string | null }
      for (const reading of page.readings) points += Object.keys(reading.values).length
      ;({ next } = page)
    } while (next !== null)
  }
  return points
}
