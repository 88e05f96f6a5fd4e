/** Presence on a real embedded store: what is told, what is shown, and what a store that is away does to it. */
import t from 'tap'
import { TwinfoldError } from '../../src/core/errors.js'
import { systemClock } from '../../src/core/clock.js'
import type { OutEvent } from '../../src/store/event-log.js'
import type { EmbeddedStore } from '../../src/store/embedded/embedded-store.js'
import { newSeed, randomFrom } from '../store/store-fixtures.js'
import { dataOf, eventsOf, MovedClock, openStoreIn, serviceOf, sessionOf, ToldMembership, until, written } from './support.js'

t.setTimeout(60_000)

void t.test('a device is connected when the stage says so, before anything is written, and everywhere after', async t => {
  const store = await openStoreIn(t)
  const membership = new ToldMembership()
  membership.set('boot-a', 'a', 'live')
  membership.set('boot-b', 'b', 'live')
  const [a, b] = ['a', 'b'].map(node => serviceOf({ store, membership, node, bootId: `boot-${node}` }))
  await Promise.all([a.open(), b.open()])
  t.teardown(async () => { await Promise.all([a.close(), b.close()]) })
  const [never] = await a.view('t', ['d'])
  t.strictSame(never, { connected: false, since: 0, reason: null, lastActivity: 0, stale: false, node: null, via: null, connection: null })
  const session = sessionOf('t', 'd', { via: 'gateway' })
  a.opened(session)
  const [own] = await a.view('t', ['d'])
  t.match(own, { connected: true, reason: null, stale: false, node: 'a', via: 'gateway', connection: session.connection })
  t.equal(a.isConnectedHere('t', 'd'), true)
  t.equal(b.isConnectedHere('t', 'd'), false)
  t.strictSame([...a.connectedByTenant], [['t', 1]])
  await written(a)
  t.match((await b.view('t', ['d']))[0], { connected: true, since: own.since, node: 'a', connection: session.connection })
  const heardUs = systemClock.nowUs()
  a.closed(session, 'keep_alive', heardUs)
  t.match((await a.view('t', ['d']))[0], { connected: false, reason: 'keep_alive', node: 'a', lastActivity: heardUs })
  a.closed(session, 'client', heardUs)
  await written(a)
  t.match((await b.view('t', ['d']))[0], { connected: false, reason: 'keep_alive', node: 'a', since: Number })
  t.strictSame([...a.connectedByTenant], [])
  t.strictSame((await eventsOf(store, 't', 'd')).map(event => [event.type, dataOf(event).connected]), [['device.connected', true], ['device.disconnected', false]])
})

void t.test('of several connections of one device the last opened stands for it, and it stays connected until the last has ended', async t => {
  const store = await openStoreIn(t)
  const service = serviceOf({ store })
  await service.open()
  const [one, two, three] = Array.from({ length: 3 }, () => sessionOf('t', 'd'))
  const shown = async (): Promise<string | null> => {
    await written(service)
    const [view] = await service.view('t', ['d'])
    return view.connected ? view.connection : `no: ${view.reason}`
  }
  service.opened(one)
  service.opened(two)
  t.equal(await shown(), two.connection)
  service.opened(three)
  service.closed(two, 'taken_over', 0)
  t.equal(await shown(), three.connection)
  service.closed(three, 'closed', 0)
  t.equal(await shown(), one.connection, 'the one that is left')
  service.closed(one, 'client', 0)
  t.equal(await shown(), 'no: client')
  t.equal(service.stats.devicesConnected, 0)
  t.strictSame((await eventsOf(store, 't', 'd')).map(event => `${dataOf(event).connection} ${event.type.slice(7)} ${dataOf(event).connected}`), [
    `${one.connection} connected true`, `${two.connection} connected true`, `${three.connection} connected true`,
    `${two.connection} disconnected true`, `${three.connection} disconnected true`, `${one.connection} disconnected false`
  ])
  await service.close()
  t.strictSame(await store.presenceBoots(), [], 'a clean stop leaves nothing to sweep')
  // The same as the next start finds it.
  const next = serviceOf({ store, bootId: 'boot-2' })
  await next.open()
  t.match((await next.view('t', ['d']))[0], { connected: false, reason: 'client', connection: one.connection })
  await next.close()
})

void t.test('devices that move between two nodes and flap end as they are, whatever was written when', async t => {
  const seed = newSeed()
  t.comment(`seed ${seed}`)
  const random = randomFrom(seed)
  const store = await openStoreIn(t)
  const membership = new ToldMembership()
  for (const node of ['a', 'b']) membership.set(`boot-${node}`, node, 'live')
  // Each node's writes are held up by chance, so that they come in any order.
  const slow = new Proxy(store, {
    get: (target, name) => {
      const method = Reflect.get(target, name) as unknown
      if (!['putConnected', 'putDisconnected', 'appendEvents'].includes(String(name))) return typeof method === 'function' ? (method as () => unknown).bind(target) : method
      return async (...args: unknown[]) => {
        await new Promise(resolve => { setTimeout(resolve, random() * 15) })
        return await (method as (...given: unknown[]) => Promise<unknown>).apply(target, args)
      }
    }
  })
  const services = ['a', 'b'].map(node => serviceOf({ store: slow, membership, node, bootId: `boot-${node}` }))
  await Promise.all(services.map(async service => { await service.open() }))
  t.teardown(async () => { await Promise.all(services.map(async service => { await service.close() })) })
  const devices = Array.from({ length: 20 }, (_, i) => `d${i}`)
  const open = new Map<string, { service: typeof services[number], session: ReturnType<typeof sessionOf> }[]>(devices.map(device => [device, []]))
  const last = new Map<string, string>()
  for (let step = 0; step < 1500; step++) {
    const device = devices[Math.floor(random() * devices.length)]
    const own = open.get(device) ?? []
    // An older connection often ends after a newer one began: a takeover by another node.
    if (own.length < 3 && random() < 0.5) {
      const session = sessionOf('t', device)
      const service = services[Math.floor(random() * 2)]
      service.opened(session)
      own.push({ service, session })
    } else if (own.length > 0) {
      const [{ service, session }] = own.splice(Math.floor(random() * own.length), 1)
      service.closed(session, 'taken_over', 0)
      last.set(device, session.connection)
    }
    if (step % 25 === 0) await new Promise(resolve => { setTimeout(resolve, random() * 10) })
  }
  await written(...services)
  for (const service of services) {
    const views = await service.view('t', devices)
    for (const [i, device] of devices.entries()) {
      const own = open.get(device) ?? []
      t.equal(views[i].connected, own.length > 0, device)
      if (own.length > 0) t.ok(own.some(({ session }) => session.connection === views[i].connection))
    }
  }
  for (const device of devices) {
    const events = await eventsOf(store, 't', device)
    const ids = new Set<string>()
    let wrong = 0
    for (const { id, type } of events) {
      if (ids.has(id) || (type === 'device.disconnected' && !ids.has(id.replace(/disconnected$/, 'connected')))) wrong++
      ids.add(id)
    }
    t.equal(wrong, 0, 'no event twice, none before its other')
    t.equal(events.filter(({ type }) => type === 'device.connected').length - events.filter(({ type }) => type === 'device.disconnected').length, open.get(device)?.length)
  }
})

/** A store whose writes fail while the test says so. */
function failing (store: EmbeddedStore): { store: EmbeddedStore, down: { value: boolean } } {
  const down = { value: false }
  const proxy = new Proxy(store, {
    get: (target, name) => {
      const method = Reflect.get(target, name) as unknown
      if (typeof method !== 'function') return method
      return (...args: unknown[]) => {
        if (down.value && /^(put|append|take)/.test(String(name))) return Promise.reject(new TwinfoldError('store_unavailable', 'planned'))
        return (method as (...given: unknown[]) => unknown).apply(target, args)
      }
    }
  })
  return { store: proxy, down }
}

void t.test('while the store is away connections are shown from memory; when it is back everything is written and told, in order', async t => {
  const real = await openStoreIn(t)
  const { store, down } = failing(real)
  const service = serviceOf({ store })
  await service.open()
  t.teardown(async () => { await service.close() })
  const first = sessionOf('t', 'd')
  service.opened(first)
  await written(service)
  down.value = true
  service.closed(first, 'closed', 0)
  const flaps = Array.from({ length: 50 }, () => sessionOf('t', 'd'))
  for (const session of flaps) {
    service.opened(session)
    service.closed(session, 'protocol', 0)
  }
  const kept = sessionOf('t', 'd')
  service.opened(kept)
  service.opened(sessionOf('t', 'e'))
  await until('a flush failed', () => service.stats.flushFailures > 0)
  t.match((await service.view('t', ['d', 'e'])).map(({ connected, connection }) => ({ connected, connection })), [{ connected: true, connection: kept.connection }, { connected: true }])
  service.noteActivity('t', 'h', 77)
  down.value = false
  await written(service)
  t.equal((await real.getPresence('t', ['d']))[0].slots[0].connected.connection, kept.connection)
  const told = (await eventsOf(real, 't', 'd')).map(event => `${dataOf(event).connection} ${event.type.slice(7)}`)
  t.equal(new Set(told).size, told.length)
  t.strictSame(told.slice(0, 2), [`${first.connection} connected`, `${first.connection} disconnected`])
  t.equal(told.at(-1), `${kept.connection} connected`)
  t.ok(told.length <= 34 && service.stats.eventsLeftOut > 60, `${told.length} told, ${service.stats.eventsLeftOut} left out: connections in the middle`)
  for (let i = 0; i + 1 < told.length; i += 2) t.equal(told[i].split(' ')[0], told[i + 1].split(' ')[0], 'left out by pairs')
})

void t.test('last activity: of HTTP devices and of connected ones; a device that is silent for long is stale', async t => {
  const store = await openStoreIn(t)
  const clock = new MovedClock()
  const service = serviceOf({ store, clock, staleAfterS: 60 })
  await service.open()
  t.teardown(async () => { await service.close() })
  const nowUs = clock.nowUs()
  for (const at of [nowUs - 5e6, nowUs, nowUs - 9e6]) service.noteActivity('t', 'h', at)
  t.match((await service.view('t', ['h', 'x'])), [{ connected: false, since: 0, lastActivity: nowUs, stale: false }, { lastActivity: 0, stale: false }])
  const session = { ...sessionOf('t', 'd'), lastHeardUs: clock.nowUs() }
  service.opened(session)
  clock.move(61_000)
  t.match((await service.view('t', ['h', 'd', 'x'])), [{ connected: false, stale: true, lastActivity: nowUs }, { connected: true, stale: true }, { stale: false }])
  session.lastHeardUs = clock.nowUs()
  t.match((await service.view('t', ['d'])), [{ connected: true, stale: false, lastActivity: session.lastHeardUs }])
  service.closed(session, 'client', session.lastHeardUs)
  await service.close()
  t.match((await store.getPresence('t', ['h', 'd'])), [{ activityAt: nowUs }, { activityAt: session.lastHeardUs }])
})

void t.test('nothing of a device that was deleted is written any more; what it did is told', async t => {
  const store = await openStoreIn(t)
  const service = serviceOf({ store })
  await service.open()
  const session = sessionOf('t', 'd')
  service.opened(session)
  service.noteActivity('t', 'd', 5)
  await service.forget('t', 'd')
  await written(service)
  t.strictSame(await store.getPresence('t', ['d']), [{ tenant: 't', device: 'd', slots: [], activityAt: 0 }])
  service.closed(session, 'revoked', 0)
  await written(service)
  t.strictSame((await store.getPresence('t', ['d']))[0].slots, [])
  t.strictSame((await eventsOf(store, 't', 'd')).map(({ type }: OutEvent) => type), ['device.connected', 'device.disconnected'])
  await service.close()
})

void t.test('8,000 devices that come at once hold up nobody and are written in some large batches', async t => {
  const store = await openStoreIn(t)
  let calls = 0
  const counted = new Proxy(store, {
    get: (target, name) => {
      const method = Reflect.get(target, name) as unknown
      if (typeof method !== 'function') return method
      if (name === 'putConnected') calls++
      return (method as () => unknown).bind(target)
    }
  })
  const service = serviceOf({ store: counted })
  await service.open()
  const sessions = Array.from({ length: 8000 }, (_, i) => sessionOf('t', `d${i}`))
  const startMs = performance.now()
  for (const session of sessions) service.opened(session)
  const toldMs = performance.now() - startMs
  await written(service)
  const writtenMs = performance.now() - startMs
  t.comment(`told in ${toldMs.toFixed(0)} ms, written in ${writtenMs.toFixed(0)} ms, ${calls} calls`)
  t.ok(calls <= 16)
  const closeMs = performance.now()
  for (const session of sessions) service.closed(session, 'server_stopped', session.lastHeardUs)
  await service.close()
  t.comment(`a clean stop took ${(performance.now() - closeMs).toFixed(0)} ms`)
  t.strictSame(await store.presenceBoots(), [])
  t.equal((await store.getPresence('t', sessions.filter((_, i) => i % 16 === 0).map(({ device }) => device))).filter(({ slots: [slot] }) => slot.disconnected?.reason === 'server_stopped').length, 500)
})
