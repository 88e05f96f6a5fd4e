/** What the event log on Cassandra keeps while several nodes write it, with clocks that differ and writes that take long. */
import type { Test } from 'tap'
import { setTimeout as pause } from 'node:timers/promises'
import { systemClock, type Clock } from '../../src/core/clock.js'
import { CassandraEventLog } from '../../src/store/cluster/cassandra/cassandra-event-log.js'
import type { CassandraClient } from '../../src/store/cluster/cassandra/cassandra-client.js'
import { laneOf, type LoggedEvent, type OutEvent } from '../../src/store/event-log.js'
import { clientWith } from './cassandra-entities-support.js'
import { outEventOf, readAll } from './event-log.contract.js'
import { newSeed, newTenantId, randomFrom } from './store-fixtures.js'

const settleMs = 600
const windowMs = 300
/** Until what was appended can be read, by a clock that is off as well. */
const readableMs = settleMs + windowMs + 200

function skewed (ms: number): Clock {
  return { nowUs: () => systemClock.nowUs() + ms * 1000, monotonicMs: () => systemClock.monotonicMs() }
}

/** Writes reach Cassandra late, or are answered late, up to well past the time that readers wait: some are there when readers are past them. */
function slow (client: CassandraClient, random: () => number): CassandraClient {
  let first = true
  const delayMs = (share: number): number => random() < share ? settleMs * (0.4 + 1.2 * random()) : 20 * random()
  return clientWith(client, {
    write: async (cql, parameters) => {
      await pause(delayMs(first ? 1 : 0.1))
      first = false
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
    const nodes = [-skewMs, skewMs].map(ms => new CassandraEventLog(slow(client, random), { clock: skewed(ms), settleMs, windowMs }))
    const reader = new CassandraEventLog(client, { clock: systemClock, settleMs, windowMs })
    // One lane, so that the nodes write side by side.
    const devices = Array.from({ length: 200 }, (_, i) => `d${i}`).filter(device => laneOf(tenant, device) === 3).slice(0, 6)
    const start = await reader.endOfEvents(3)
    let telling = true
    const reading = (async () => {
      const found: OutEvent[] = []
      for (let position = start, last = false; ;) {
        if (!last && !telling) {
          last = true
          await pause(readableMs)
        }
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
      t.strictSame([...new Set(numbers)], Array.from({ length: each }, (_, i) => i + 1), `${device}: none is missing, and the first of each in order, seed ${seed}`)
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
        if (held) await pause(settleMs + windowMs + 100)
        held = false
        await client.write(cql, parameters)
      }
    })
    const [log, reader] = [new CassandraEventLog(late, { clock: systemClock, settleMs, windowMs }), new CassandraEventLog(client, { clock: systemClock, settleMs, windowMs })]
    const start = await reader.endOfEvents(lane)
    const appending = log.appendEvents([outEventOf(tenant, 'd', 1)])
    await pause(settleMs + windowMs + 20)
    const past = await reader.readEvents(lane, start, 10)
    t.strictSame(past.events, [])
    await appending
    t.equal(log.stats.again, 1)
    await pause(settleMs + windowMs + 5)
    t.strictSame((await reader.readEvents(lane, past.position, 10)).events.map(({ event }) => event.id), [`${tenant}:d:1`])
  })

  void t.test('of one node the first telling of each is in order, however slow its writes', async t => {
    const seed = newSeed()
    const tenant = newTenantId()
    const log = new CassandraEventLog(slow(client, randomFrom(seed)), { clock: systemClock, settleMs, windowMs })
    const lane = laneOf(tenant, 'd')
    const start = await log.endOfEvents(lane)
    await Promise.all(Array.from({ length: 40 }, async (_, i) => { await log.appendEvents([outEventOf(tenant, 'd', i, { sequence: undefined })]) }))
    await pause(readableMs)
    const { events } = await log.readEvents(lane, start, 1000)
    const first = [...new Set(events.filter(({ event }) => event.tenant === tenant).map(({ event }) => event.id))]
    t.strictSame(first, Array.from({ length: 40 }, (_, i) => `${tenant}:d:${i}`), `seed ${seed}`)
  })

  void t.test('events of a sequence that come out of order are handed out in order, and no position skips one', async t => {
    const tenant = newTenantId()
    const lane = laneOf(tenant, 'd')
    const [ahead, behind] = [new CassandraEventLog(client, { clock: skewed(150), settleMs, windowMs }), new CassandraEventLog(client, { clock: skewed(-150), settleMs, windowMs })]
    const start = await behind.endOfEvents(lane)
    await ahead.appendEvents([outEventOf(tenant, 'd', 1), outEventOf(tenant, 'd', 100, { sequence: { of: 'other', number: 1 } })])
    await behind.appendEvents([outEventOf(tenant, 'd', 2)])
    await ahead.appendEvents([outEventOf(tenant, 'd', 3)])
    await behind.appendEvents([outEventOf(tenant, 'd', 4)])
    await pause(readableMs)
    const { events } = await ahead.readEvents(lane, start, 100)
    const mine = events.filter(({ event }) => event.tenant === tenant)
    t.strictSame(mine.filter(({ event }) => event.sequence?.of === 'twin').map(({ event }) => event.sequence?.number), [1, 2, 3, 4])
    for (const [i, { position }] of events.entries()) {
      const rest = new Set((await ahead.readEvents(lane, position, 100)).events.map(({ event }) => event.id))
      t.ok(events.slice(i + 1).every(({ event }) => rest.has(event.id)), `going on from the ${i}th`)
    }
  })

  void t.test('a node whose clock is behind tells of its commits behind those that they were made upon, wherever pages end', async t => {
    const tenant = newTenantId()
    const lane = laneOf(tenant, 'd')
    const [ahead, behind, reader] = [100, -100, 0].map(ms => new CassandraEventLog(client, { clock: skewed(ms), settleMs, windowMs })) as [CassandraEventLog, CassandraEventLog, CassandraEventLog]
    const start = await behind.endOfEvents(lane)
    const version = (number: number): OutEvent => outEventOf(tenant, 'd', number)
    const mine = (events: readonly LoggedEvent[]): number[] => [...new Set(events.filter(({ event }) => event.tenant === tenant).map(({ event }) => event.sequence?.number as number))]
    let telling = true
    const follow = async (limit: number): Promise<LoggedEvent[]> => {
      const found: LoggedEvent[] = []
      for (let position = start, last = false; ;) {
        last = !telling
        if (last) await pause(readableMs)
        for (;;) {
          const read = await reader.readEvents(lane, position, limit)
          position = read.position
          found.push(...read.events)
          if (read.events.length === 0) break
        }
        if (last) return found
        await pause(7)
      }
    }
    const following = Promise.all([1, 3, 100].map(follow))
    const rounds = 5
    for (let round = 0; round < rounds; round++) {
      // One commits three times, then the other on top of that, and the first again.
      for (const number of [1, 2, 3]) await ahead.appendEvents([version(round * 5 + number)])
      await behind.appendEvents([version(round * 5 + 3), version(round * 5 + 4)])
      await ahead.appendEvents([version(round * 5 + 4), version(round * 5 + 5)])
      await behind.appendEvents([version(round * 5 + 5)])
    }
    telling = false
    const all = Array.from({ length: rounds * 5 }, (_, i) => i + 1)
    for (const found of await following) {
      t.strictSame(mine(found), all)
      t.ok(found.length < 20 * all.length, `${found.length} tellings`)
    }
    let rest: readonly LoggedEvent[] = []
    for (const limit of [1, 2, 5]) {
      rest = (await readAll(reader, lane, start, limit, true)).events
      t.strictSame(mine(rest), all, `limit ${limit}`)
    }
    for (const i of [0, 3, 7, 11]) {
      const numbers = mine((await readAll(reader, lane, rest[i].position, 4, true)).events)
      t.strictSame(numbers, [...numbers].sort((a, b) => a - b), `in order from the ${i}th on`)
      t.strictSame(mine(rest.slice(i + 1)).filter(number => !numbers.includes(number)), [], `none is missed from the ${i}th on`)
    }
  })

  void t.test('writes that are always too slow are refused, in so many words', async t => {
    const log = new CassandraEventLog(clientWith(client, { write: async () => { await pause(12) } }), { clock: systemClock, settleMs: 20 })
    await t.rejects(log.appendEvents([outEventOf('x', 'd', 1)]), { code: 'store_unavailable', message: /too slow/ })
    const failing = new CassandraEventLog(clientWith(client, { write: async () => { throw new Error('planned') } }), { clock: systemClock })
    await t.rejects(failing.appendEvents([outEventOf('x', 'd', 1), outEventOf('x', 'e', 1)]), { message: 'planned' })
  })
}
