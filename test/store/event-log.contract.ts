/** What every implementation of the event log keeps (src/store/event-log.ts). */
import type { Test } from 'tap'
import { setTimeout as pause } from 'node:timers/promises'
import { eventLanes, laneOf, type EventLog, type LoggedEvent, type OutEvent } from '../../src/store/event-log.js'
import { commitOf, keyOf, type OpenEntityStore } from './entity-store.contract.js'
import { newSeed, newTenantId, randomFrom } from './store-fixtures.js'

export function outEventOf (tenant: string, device: string, number: number, more: Partial<OutEvent> = {}): OutEvent {
  return { id: `${tenant}:${device}:${number}`, tenant, device, type: 'twin.changed', stamp: Date.now() * 1000, data: `{"n":${number}}`, sequence: { of: 'twin', number }, ...more }
}

/** Until every reader sees what was appended. */
export async function settled (log: EventLog): Promise<void> {
  if (log.settleMs > 0) await pause(log.settleMs + 5)
}

/**
 * Everything of the lane behind the position, read `limit` at a time, until nothing more comes.
 * @param disordered nodes told of sequences in another order: more may come where more belong before one event
 */
export async function readAll (log: EventLog, lane: number, after: string, limit = 100, disordered = false): Promise<{ events: LoggedEvent[], position: string }> {
  const events: LoggedEvent[] = []
  for (let empty = 0, position = after; ;) {
    const read = await log.readEvents(lane, position, limit)
    if (read.events.length > limit && !disordered) throw new Error('more than asked for')
    if (read.position < position) throw new Error(`the position went back from ${position} to ${read.position}`)
    if (read.events.length > 0 && read.position === position) throw new Error(`the position stays at ${position}, though there are events`)
    events.push(...read.events)
    // Far back there is nothing for long stretches; at the end the position only follows the clock.
    empty = read.events.length > 0 || read.position.slice(0, 10) > position.slice(0, 10) ? 0 : empty + 1
    position = read.position
    if (empty > 1) return { events, position }
  }
}

/** The events of the tenant, of repeats the first. A slow cluster tells some again; the embedded log never does. */
function firstOf (log: EventLog, tenant: string, found: readonly OutEvent[]): OutEvent[] {
  const mine = found.filter(event => event.tenant === tenant)
  const seen = new Set<string>()
  return log.settleMs === 0 ? mine : mine.filter(({ id }) => !seen.has(id) && seen.add(id))
}

export function eventLogContract (t: Test, open: OpenEntityStore): void {
  void t.test('events: of one lane are read in the order they were told in, whatever the limit, and nothing before the end that was asked for', async t => {
    const log = await open()
    const tenant = newTenantId()
    const lane = laneOf(tenant, 'd')
    const start = await log.endOfEvents(lane)
    const events = Array.from({ length: 60 }, (_, i) => outEventOf(tenant, 'd', i, { data: JSON.stringify({ text: 'ü\n\u{1F600}'.repeat(i) }), ...(i % 3 === 0 ? { sequence: undefined } : {}) }))
    for (let i = 0; i < events.length; i += 7) await log.appendEvents(events.slice(i, i + 7))
    await settled(log)
    const plain = JSON.parse(JSON.stringify(events)) as OutEvent[]
    const mine = (found: readonly LoggedEvent[]): OutEvent[] => firstOf(log, tenant, found.map(({ event }) => event))
    for (const limit of [1, 7, 1000]) {
      const { events: found, position } = await readAll(log, lane, start, limit)
      t.strictSame(JSON.parse(JSON.stringify(mine(found))), plain, `limit ${limit}`)
      t.strictSame((await log.readEvents(lane, position, limit)).events, [])
      t.ok(found.every((one, i) => i === 0 || one.position > found[i - 1].position), 'positions sort as text')
    }
    const { events: found } = await readAll(log, lane, start)
    for (const i of [0, 5, 58]) {
      const { position } = found.find(({ event }) => event.id === plain[i].id) as LoggedEvent
      const rest = new Set(mine((await readAll(log, lane, position)).events).map(({ id }) => id))
      t.ok(plain.slice(i + 1).every(({ id }) => rest.has(id)), 'goes on from any position')
      if (log.settleMs === 0) t.equal(rest.size, plain.length - i - 1)
    }
    t.strictSame(mine((await log.readEvents(lane, await log.endOfEvents(lane), 10)).events), [])
    t.strictSame(await log.readEvents(lane, start, 0).then(({ events }) => events), [])
    await t.rejects(log.readEvents(lane, 'nonsense', 10), { code: 'invalid_field' })
  })

  void t.test('events: a reader that follows while many tell misses nothing, and has each device in order', async t => {
    const log = await open()
    const seed = newSeed()
    const draw = randomFrom(seed)
    const random = (below: number): number => Math.floor(draw() * below)
    const tenant = newTenantId()
    const devices = Array.from({ length: 24 }, (_, i) => `d${i}`)
    const each = 12
    const starts = await Promise.all(Array.from({ length: eventLanes }, async (_, lane) => await log.endOfEvents(lane)))
    let telling = true
    const readers = starts.map(async (start, lane) => {
      const found: OutEvent[] = []
      for (let position = start, last = false; ;) {
        last = !telling
        if (last) await settled(log)
        const read = await log.readEvents(lane, position, 1 + random(20))
        position = read.position
        found.push(...read.events.map(({ event }) => event))
        if (last && read.events.length === 0) return firstOf(log, tenant, found)
        if (!last) await pause(5)
      }
    })
    await Promise.all(devices.map(async device => {
      for (let i = 0; i < each; i++) {
        await log.appendEvents([outEventOf(tenant, device, i)])
        if (random(4) === 0) await pause(random(20))
      }
    }))
    telling = false
    const found = await Promise.all(readers)
    for (const device of devices) {
      const numbers = found[laneOf(tenant, device)].filter(event => event.device === device).map(event => event.sequence?.number)
      t.strictSame(numbers, Array.from({ length: each }, (_, i) => i), `${device}, seed ${seed}`)
    }
    t.equal(found.flat().length, devices.length * each, 'each once, in its own lane')
  })

  void t.test('events: one call may tell of many devices and of large ones', async t => {
    const log = await open()
    const tenant = newTenantId()
    const starts = await Promise.all(Array.from({ length: eventLanes }, async (_, lane) => await log.endOfEvents(lane)))
    const events = [
      ...Array.from({ length: 400 }, (_, i) => outEventOf(tenant, `d${i % 40}`, i)),
      ...Array.from({ length: 3 }, (_, i) => outEventOf(tenant, 'large', i, { data: JSON.stringify('x'.repeat(256 * 1024 - 2)) })),
      outEventOf(tenant, '', 0, { sequence: undefined, type: 'deadletter.added' })
    ]
    await log.appendEvents(events)
    await log.appendEvents([])
    await settled(log)
    const found = firstOf(log, tenant, (await Promise.all(starts.map(async (start, lane) => (await readAll(log, lane, start, 50)).events))).flat().map(({ event }) => event))
    t.strictSame(found.map(({ id }) => id).sort(), events.map(({ id }) => id).sort())
    t.equal(found.filter(({ device }) => device === 'large').every(({ data }) => data.length === 256 * 1024), true)
  })

  void t.test('events: a position by time lies before what happened since', async t => {
    const log = await open()
    const tenant = newTenantId()
    const lane = laneOf(tenant, 'd')
    const stamp = Date.now() * 1000
    await log.appendEvents([outEventOf(tenant, 'd', 1, { stamp })])
    await settled(log)
    for (const at of [log.positionAt(lane, stamp), log.positionAt(lane, stamp - 3600e6), log.positionAt(lane, 0)]) {
      t.ok((await readAll(log, lane, at)).events.some(({ event }) => event.tenant === tenant))
    }
    const later = await readAll(log, lane, log.positionAt(lane, stamp + 60e6))
    t.notOk(later.events.some(({ event }) => event.tenant === tenant))
  })

  void t.test('events: a commit tells what it changed, a refused one nothing, and who waits is woken', async t => {
    const store = await open()
    const tenant = newTenantId()
    const key = keyOf(tenant, 'd')
    const lane = laneOf(tenant, 'd')
    const start = await store.endOfEvents(lane)
    let stop = (): void => {}
    const woken = new Promise<void>(resolve => {
      stop = store.onAppended(lanes => { if (lanes.has(lane)) resolve() })
    })
    for (let version = 0; version < 5; version++) {
      const outbox = [outEventOf(tenant, 'd', version + 1)]
      const [done, other] = await Promise.all([store.commitEntities([commitOf(key, version, { outbox })], true), store.commitEntities([commitOf(key, version + 7, { outbox: [outEventOf(tenant, 'd', 1000 + version)] })], true)])
      t.strictSame([done, other], [[true], [false]])
    }
    await woken
    stop()
    await settled(store)
    const found = firstOf(store, tenant, (await readAll(store, lane, start)).events.map(({ event }) => event))
    t.strictSame(found.map(event => event.sequence?.number), [1, 2, 3, 4, 5])
  })
}
