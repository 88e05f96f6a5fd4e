/**
 * Cassandra away or slow under load, the real process killed and stopped (INVARIANTS 1, 3): acknowledgements go on from the
 * journal, nothing is lost, hot data answers, everything else says 503 with a reason, and all drains afterwards.
 */
import t from 'tap'
import { OutageFleet, clusterSettings } from '../support/outage-fleet.js'
import { startPrivateCassandra } from '../support/private-cassandra.js'
import { startPrivateRedis } from '../support/private-redis.js'
import { newTestName, skipWithout } from '../support/services.js'

const devices = 20
const ratePerSecond = 25
/** Of the rate right before: an outage must not be felt, though a shared machine may get busier. */
const leastShare = 0.6
const outageMs = 60_000

t.test('Cassandra killed for 60 s and paused again and again under load: acks go on, nothing is lost, hot data answers', { timeout: 400_000 }, async t => {
  if (skipWithout(t, 'cassandra') || skipWithout(t, 'redis')) return
  const cassandra = await startPrivateCassandra({ nodes: 1 })
  t.teardown(async () => { await cassandra.close() })
  const redis = await startPrivateRedis()
  t.teardown(async () => { await redis.close() })
  const fleet = await OutageFleet.start(clusterSettings({ contactPoints: cassandra.contactPoints, dataCenter: cassandra.dataCenter, redisUrl: redis.url, keyspace: newTestName() }), { devices, ratePerSecond })
  t.teardown(async () => { await fleet.close() })
  await fleet.ackedPerSecond(3000)
  const before = await fleet.ackedPerSecond(5000)
  const least = leastShare * before
  t.comment(`acknowledged a second before: ${Math.round(before)}`)
  t.equal((await fleet.timed('/devices/d0/telemetry/latest')).status, 200)

  await cassandra.kill(0)
  const endMs = performance.now() + outageMs
  const rates: number[] = []
  let hot = ''
  let hotMoved = 0
  while (performance.now() < endMs) {
    rates.push(Math.round(await fleet.ackedPerSecond(5000)))
    const latest = await fleet.timed('/devices/d0/telemetry/latest')
    t.equal(latest.status, 200, 'the latest values answer')
    t.ok(latest.tookMs < 2000, `in ${Math.round(latest.tookMs)} ms`)
    const text = JSON.stringify(latest.body)
    if (text !== hot) hotMoved++
    hot = text
    const range = await fleet.timed('/devices/d0/telemetry?limit=10')
    t.match(range, { status: 503, body: { code: 'store_unavailable', detail: /Cassandra/i } }, 'a range query says what is away')
    t.ok(range.tookMs < 5000, `in ${Math.round(range.tookMs)} ms`)
  }
  t.comment(`acknowledged a second while Cassandra was away: ${rates.join(' ')}`)
  t.ok(Math.min(...rates) > least, 'acknowledgements go on')
  t.ok(hotMoved > 5, 'and hot answers hold what came meanwhile')
  const ready = await fleet.ready()
  t.equal(ready.status, 200, 'ready for ingest')
  t.match(ready.text, /"name":"Cassandra","state":"down"/)

  await cassandra.start(0)
  await fleet.api.drain(120_000).catch(() => {})
  t.match(await fleet.timed('/devices/d0/telemetry?limit=10'), { status: 200 }, 'queries answer again')

  // Slow: two seconds of standstill in every three.
  const slowRates: number[] = []
  for (let i = 0; i < 6; i++) {
    cassandra.pause(0)
    slowRates.push(Math.round(await fleet.ackedPerSecond(2000)))
    cassandra.resume(0)
    await new Promise(resolve => { setTimeout(resolve, 1000) })
  }
  t.comment(`acknowledged a second while Cassandra was slow: ${slowRates.join(' ')}`)
  t.ok(Math.min(...slowRates) > least, 'a slow Cassandra is not felt by devices')

  const { acked, stored, missing, twice, wrong, neverSent } = await fleet.settle()
  t.comment(`${acked} acknowledged, ${stored} stored`)
  t.strictSame({ missing, twice, wrong, neverSent }, { missing: [], twice: [], wrong: [], neverSent: [] })
  t.ok(stored >= acked)
})
