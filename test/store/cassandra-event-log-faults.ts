/** What the event log on Cassandra keeps while several nodes write it, with clocks that differ and writes that take long. */
import type { Test } from 'tap'
import { setTimeout as pause } from 'node:timers/promises'
import { systemClock, type Clock } from '../../src/core/clock.js'
import { CassandraEventLog } from '../../src/store/cluster/cassandra/cassandra-event-log.js'
import type { CassandraClient } from '../../src/store/cluster/cassandra/cassandra-client.js'
import { laneOf, type OutEvent } from '../../src/store/event-log.js'
import { clientWith } from './cassandra-entities-support.js'
import { outEventOf } from './event-log.contract.js'
import { newSeed, newTenantId, randomFrom } from './store-fixtures.js'

const settleMs = 600

function skewed (ms: number): Clock {
  return { nowUs: () => systemClock.nowUs() + ms * 1000, monotonicMs: () => systemClock.monotonicMs() }
}

/** Writes reach Cassandra late, or are answered late, up to well past the time that readers wait: some are there when readers are past them. */
function slow (client: CassandraClient, random: () => number): CassandraClient {
  const delayMs = (share: number): number => random() < share ? settleMs * (0.4 + 1.2 * random()) : 20 * random()
  return clientWith(client, {
    write: async (cql, parameters) => {
      await pause(delayMs(0.1))
      await client.write(cql, parameters)
      await pause(delayMs(0.03))
    }
  })
}

export function cassandraEventLogFaults (t: Test, client: CassandraClient): void {
  void t.test('a reader misses nothing that two nodes tell, their clocks apart and their writes slow', async t => {
    const seed = newSeed()
    const random = randomFrom(seed)
    const tenant = newTenantId()
    // As far off as nodes may be, in proportion to the time that is waited.
    const skewMs = settleMs / 8
    const nodes = [-skewMs, skewMs].map(ms => new CassandraEventLog(slow(client, random), { clock: skewed(ms), settleMs }))
    const reader = new CassandraEventLog(client, { clock: systemClock, settleMs })
    // One lane, so that the nodes write side by side.
    const devices = Array.from({ length: 200 }, (_, i) => `d${i}`).filter(device => laneOf(tenant, device) === 3).slice(0, 6)
    const start = await reader.endOfEvents(3)
    let telling = true
    const reading = (async () => {
      const found: OutEvent[] = []
      for (let position = start, last = false; ;) {
        last = !telling
        if (last) await pause(settleMs + 200)
        const read = await reader.readEvents(3, position, 1 + Math.floor(random() * 10))
        position = read.position
        found.push(...read.events.map(({ event }) => event))
        if (last && read.events.length === 0) return found
        if (!last) await pause(15)
      }
    })()
    // The versions of a device come from one node after the other, each when the one before was told, as commits do.
    const each = 8
    await Promise.all(devices.map(async (device, d) => {
      for (let number = 1; number <= each; number++) await nodes[(number + d) % 2].appendEvents([outEventOf(tenant, device, number)])
    }))
    telling = false
    const found = await reading
    for (const device of devices) {
      const numbers = found.filter(event => event.device === device).map(event => event.sequence?.number as number)
      t.strictSame([...new Set(numbers)].sort((a, b) => a - b), Array.from({ length: each }, (_, i) => i + 1), `${device}: none is missing, seed ${seed}`)
    }
    t.ok(nodes.some(({ stats }) => stats.again > 0), 'some writes were made again')
    t.ok(found.length < 3 * devices.length * each, `few come twice: ${found.length} of ${devices.length * each}`)
  })

  void t.test('an event whose write arrives when readers are past it is told again, for them', async t => {
    const tenant = newTenantId()
    const lane = laneOf(tenant, 'd')
    let held = true
    const late = clientWith(client, {
      write: async (cql, parameters) => {
        if (held) await pause(settleMs + 100)
        held = false
        await client.write(cql, parameters)
      }
    })
    const [log, reader] = [new CassandraEventLog(late, { clock: systemClock, settleMs }), new CassandraEventLog(client, { clock: systemClock, settleMs })]
    const start = await reader.endOfEvents(lane)
    const appending = log.appendEvents([outEventOf(tenant, 'd', 1)])
    await pause(settleMs + 20)
    const past = await reader.readEvents(lane, start, 10)
    t.strictSame(past.events, [])
    await appending
    t.equal(log.stats.again, 1)
    await pause(settleMs + 5)
    t.strictSame((await reader.readEvents(lane, past.position, 10)).events.map(({ event }) => event.id), [`${tenant}:d:1`])
  })

  void t.test('of one node the first telling of each is in order, however slow its writes', async t => {
    const seed = newSeed()
    const tenant = newTenantId()
    const log = new CassandraEventLog(slow(client, randomFrom(seed)), { clock: systemClock, settleMs })
    const lane = laneOf(tenant, 'd')
    const start = await log.endOfEvents(lane)
    await Promise.all(Array.from({ length: 40 }, async (_, i) => { await log.appendEvents([outEventOf(tenant, 'd', i, { sequence: undefined })]) }))
    await pause(settleMs + 50)
    const { events } = await log.readEvents(lane, start, 1000)
    const first = [...new Set(events.filter(({ event }) => event.tenant === tenant).map(({ event }) => event.id))]
    t.strictSame(first, Array.from({ length: 40 }, (_, i) => `${tenant}:d:${i}`), `seed ${seed}`)
  })

  void t.test('events of a sequence that come out of order are handed out in order, and no position skips one', async t => {
    const tenant = newTenantId()
    const lane = laneOf(tenant, 'd')
    const [ahead, behind] = [new CassandraEventLog(client, { clock: skewed(150), settleMs }), new CassandraEventLog(client, { clock: skewed(-150), settleMs })]
    const start = await behind.endOfEvents(lane)
    await ahead.appendEvents([outEventOf(tenant, 'd', 1), outEventOf(tenant, 'd', 100, { sequence: { of: 'other', number: 1 } })])
    await behind.appendEvents([outEventOf(tenant, 'd', 2)])
    await ahead.appendEvents([outEventOf(tenant, 'd', 3)])
    await behind.appendEvents([outEventOf(tenant, 'd', 4)])
    await pause(settleMs + 200)
    const { events } = await ahead.readEvents(lane, start, 100)
    const mine = events.filter(({ event }) => event.tenant === tenant)
    t.strictSame(mine.filter(({ event }) => event.sequence?.of === 'twin').map(({ event }) => event.sequence?.number), [1, 2, 3, 4])
    for (const [i, { position }] of events.entries()) {
      const rest = new Set((await ahead.readEvents(lane, position, 100)).events.map(({ event }) => event.id))
      t.ok(events.slice(i + 1).every(({ event }) => rest.has(event.id)), `going on from the ${i}th`)
    }
  })

  void t.test('writes that are always too slow are refused, in so many words', async t => {
    const log = new CassandraEventLog(clientWith(client, { write: async () => { await pause(12) } }), { clock: systemClock, settleMs: 20 })
    await t.rejects(log.appendEvents([outEventOf('x', 'd', 1)]), { code: 'store_unavailable', message: /too slow/ })
    const failing = new CassandraEventLog(clientWith(client, { write: async () => { throw new Error('planned') } }), { clock: systemClock })
    await t.rejects(failing.appendEvents([outEventOf('x', 'd', 1), outEventOf('x', 'e', 1)]), { message: 'planned' })
  })
}
