/**
 * Redis killed, flushed and restarted under load: nothing acknowledged is lost, telemetry goes on, the latest values are right
 * again afterwards. Sessions and retained messages may go with a flush (docs/FAILURE-MODES.md).
 */
import t from 'tap'
import { OutageFleet, clusterSettings } from '../support/outage-fleet.js'
import { startPrivateRedis } from '../support/private-redis.js'
import { Redis } from 'ioredis'
import { newTestName, services, skipWithout } from '../support/services.js'
import { dropKeyspace } from '../support/keyspace.js'

const devices = 20
const ratePerSecond = 25
/** Of the rate right before. */
const leastShare = 0.6

t.test('Redis killed and flushed under load: acks go on, nothing is lost, the latest values are right again', { timeout: 200_000 }, async t => {
  if (skipWithout(t, 'cassandra') || skipWithout(t, 'redis')) return
  const { cassandra } = services()
  if (cassandra === null) return
  const redis = await startPrivateRedis()
  t.teardown(async () => { await redis.close() })
  const keyspace = newTestName()
  t.teardown(async () => { await dropKeyspace(keyspace) })
  const fleet = await OutageFleet.start(clusterSettings({ contactPoints: [cassandra.contactPoint], dataCenter: cassandra.dataCenter, redisUrl: redis.url, keyspace }), { devices, ratePerSecond })
  t.teardown(async () => { await fleet.close() })
  await fleet.ackedPerSecond(3000)
  const before = await fleet.ackedPerSecond(5000)
  const least = leastShare * before
  t.comment(`acknowledged a second before: ${Math.round(before)}`)

  await redis.kill()
  const rates: number[] = []
  for (let i = 0; i < 4; i++) {
    rates.push(Math.round(await fleet.ackedPerSecond(3000)))
    const range = await fleet.timed('/devices/d0/telemetry?limit=10')
    t.equal(range.status, 200, 'range queries are not touched')
    t.equal((await fleet.timed('/devices/d0/telemetry/latest')).status, 200, 'nor are the latest values: they come from the store')
  }
  t.comment(`acknowledged a second while Redis was away: ${rates.join(' ')}`)
  t.ok(Math.min(...rates) > least, 'acknowledgements go on')
  t.match((await fleet.ready()).text, /"name":"Redis","state":"down"/)
  await redis.start()

  const admin = new Redis(redis.url)
  t.teardown(() => { admin.disconnect() })
  for (let i = 0; i < 3; i++) {
    await admin.flushall()
    t.ok(await fleet.ackedPerSecond(2000) > least, 'a flush is not felt')
  }
  const { acked, stored, missing, twice, wrong, neverSent } = await fleet.settle()
  t.comment(`${acked} acknowledged, ${stored} stored`)
  t.strictSame({ missing, twice, wrong, neverSent }, { missing: [], twice: [], wrong: [], neverSent: [] })
  for (const [id, device] of fleet.devices) {
    const newest = Math.max(...device.ledger.acked)
    const { body } = await fleet.timed(`/devices/${id}/telemetry/latest?times=ms`)
    t.match(body, { latest: { v: { ts: newest, value: device.ledger.sent.get(newest) } } }, `the latest value of ${id}`)
  }
})
