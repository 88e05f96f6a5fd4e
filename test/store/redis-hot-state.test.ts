/** The hot state on the real Redis: the contract, and what a restart, a flush and an outage may and may not do to it. */
import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { openRedis } from '../../src/store/cluster/redis/open-redis.js'
import { RedisHotState } from '../../src/store/cluster/redis/redis-hot-state.js'
import { newTestName, services, skipWithout, startPrivateRedis } from '../support/services.js'
import { hotContract, latest } from './hot-state.contract.js'

t.setTimeout(120_000)

if (!skipWithout(t, 'redis')) {
  const redis = openRedis({ url: services().redis?.url ?? '', prefix: newTestName() }, { clock: systemClock, log: silentLog, name: 'hot state' })
  t.teardown(async () => {
    await redis.run(async client => {
      for await (const keys of client.scanStream({ match: `${redis.prefix}:*`, count: 1000 })) if ((keys as string[]).length > 0) await client.unlink(keys as string[])
    })
    await redis.close()
  })
  hotContract(t, async () => new RedisHotState(redis))

  void t.test('keys leave by themselves after a week without a write, and stay inside the prefix', async t => {
    const hot = new RedisHotState(redis)
    await hot.putLatest([{ tenant: 'week', device: 'd', values: [latest('t', 1, 1)] }])
    const left = await redis.client.pttl(`${redis.prefix}:hot/week/d`)
    t.ok(left > 6.9 * 86_400_000 && left <= 7 * 86_400_000, `${left} ms`)
  })
}

void t.test('a Redis that lost something is never complete, whatever it comes back with', async t => {
  const server = await startPrivateRedis({ appendOnly: true })
  t.teardown(async () => { await server.close() })
  const redis = openRedis({ url: server.url, prefix: 'p' }, { clock: systemClock, log: silentLog, name: 'hot state' })
  t.teardown(async () => { await redis.close() })
  const hot = new RedisHotState(redis)
  const whenBack = async (): Promise<void> => {
    for (let i = 0; i < 400; i++) {
      if (await hot.getLatest('a', 'd', 'g').then(() => true, () => false)) return
      await new Promise(resolve => setTimeout(resolve, 25))
    }
    throw new Error('Redis did not come back')
  }
  const { basis } = await hot.getLatest('a', 'd', 'g')
  await hot.fillLatest({ tenant: 'a', device: 'd', values: [latest('t', 1, 1)] }, basis as string)
  t.equal((await hot.getLatest('a', 'd', 'g')).complete, true)

  await server.kill()
  await t.rejects(hot.getLatest('a', 'd', 'g'), { code: 'store_unavailable' })
  await t.rejects(hot.putLatest([{ tenant: 'a', device: 'd', values: [latest('t', 2, 2)] }]), { code: 'store_unavailable' })
  await server.start()
  await whenBack()
  const after = await hot.getLatest('a', 'd', 'g')
  t.strictSame([after.values.map(({ value }) => value), after.complete], [[1], false], 'the values are there, and are not the whole truth')
  await hot.fillLatest({ tenant: 'a', device: 'd', values: [latest('t', 2, 2)] }, basis as string)
  t.equal((await hot.getLatest('a', 'd', 'g')).complete, false, 'what was read before the restart does not fill')
  await hot.fillLatest({ tenant: 'a', device: 'd', values: [] }, after.basis as string)
  t.equal((await hot.getLatest('a', 'd', 'g')).complete, true)

  await redis.client.flushall()
  await redis.client.script('FLUSH')
  const flushed = await hot.getLatest('a', 'd', 'g')
  t.strictSame([flushed.values.length, flushed.complete], [0, false])
  await hot.putLatest([{ tenant: 'a', device: 'd', values: [latest('p', 1, 1)] }])
  t.equal((await hot.getLatest('a', 'd', 'g')).complete, false)
})
