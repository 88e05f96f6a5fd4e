import t from 'tap'
import type { Test } from 'tap'
import type { DeviceBell } from '../../src/core/device-bell.js'
import { silentLog } from '../../src/core/log.js'
import { DeviceBells } from '../../src/nodes/device-bells.js'
import type { Store } from '../../src/store/store.js'
import type { DeviceLink } from '../../src/twin/device-link.js'
import { TwinAnswers } from '../../src/twin/twin-answers.js'
import { TwinDelivery } from '../../src/twin/twin-delivery.js'
import type { TwinId } from '../../src/twin/twin-model.js'
import type { TwinService } from '../../src/twin/twin-service.js'
import { embeddedStore, message, newDevice, operator, service } from './twin-world.js'

interface Sent { readonly topic: string, readonly body: { version: number, desiredVersion: number, timestamp: number, state: Record<string, unknown>, metadata: Record<string, unknown> }, readonly ack: () => void }

/** A connection that notes what it is sent; `held`: PUBACKs come when the test says so. */
class Link implements DeviceLink {
  readonly tenant: string
  readonly device: string
  readonly connection: string
  readonly sent: Sent[] = []
  readonly topics = new Set<string>()
  open = true
  held = false
  #waiting: (() => void)[] = []

  constructor ({ tenant, device }: TwinId, connection: string, topics: readonly string[]) {
    this.tenant = tenant
    this.device = device
    this.connection = connection
    for (const topic of topics) this.topics.add(`devices/${device}/twin/${topic}`)
  }

  grantedQos (topic: string): -1 | 0 | 1 { return this.topics.has(topic) ? 1 : -1 }

  async send (topic: string, payload: Uint8Array, _qos: 0 | 1): Promise<'acked' | 'written' | 'lost'> {
    return await new Promise(resolve => {
      this.sent.push({ topic: topic.split('/').slice(2).join('/'), body: JSON.parse(Buffer.from(payload).toString()) as Sent['body'], ack: () => { resolve('acked') } })
      if (!this.held) resolve('acked')
      for (const tell of this.#waiting.splice(0)) tell()
    })
  }

  /** Resolves when so many messages were sent. */
  async has (count: number): Promise<readonly Sent[]> {
    // The timers of what is tested keep no process alive.
    const alive = setInterval(() => {}, 1000)
    while (this.sent.length < count) await new Promise<void>(resolve => { this.#waiting.push(resolve) })
    clearInterval(alive)
    return this.sent
  }

  take (): (readonly [string, number, unknown])[] { return this.sent.splice(0).map(({ topic, body }) => [topic, body.version, body.state] as const) }
}

/** Long enough for what would be sent to be sent: everything here is in this process. */
const quiet = async (): Promise<void> => { await new Promise(resolve => { setTimeout(resolve, 40) }) }

async function world (t: Test, authoritative = true): Promise<{ store: Store, twins: TwinService, delivery: TwinDelivery, bell: DeviceBell, id: TwinId }> {
  const store = await embeddedStore(t)
  const twins = service(t, store, { authoritative })
  const bell = new DeviceBells({ bus: null })
  const delivery = new TwinDelivery({ twins, bell, log: silentLog, againMs: 5 })
  delivery.open()
  t.teardown(() => { delivery.close() })
  return { store, twins, delivery, bell, id: await newDevice(store) }
}

t.test('a device that connects gets its desired state and delta first thing, and nothing where there is nothing', async t => {
  const { twins, delivery, id } = await world(t)
  const silent = new Link(id, 'c0', ['desired', 'delta'])
  delivery.ready(silent)
  await quiet()
  t.same(silent.take(), [], 'never set, so nothing to say')
  delivery.ended(silent)
  await twins.change(id, { desired: { a: 1, b: 2 } }, operator)
  await twins.apply([message(id, { b: 2 })])
  const link = new Link(id, 'c1', ['desired', 'delta'])
  delivery.ready(link)
  await link.has(2)
  const [desired, delta] = link.sent
  t.match(desired, { topic: 'twin/desired', body: { version: 2, desiredVersion: 1, state: { a: 1, b: 2 } } })
  t.match(delta, { topic: 'twin/delta', body: { version: 2, desiredVersion: 1, state: { a: 1 }, metadata: { a: { timestamp: Number } } } })
  t.ok(delta.body.timestamp > 1.6e12 && delta.body.timestamp < 1e13, 'milliseconds')
  link.take()
  await twins.apply([message(id, { a: 1 })])
  await quiet()
  t.same(link.take(), [], 'a device that does what is desired hears nothing of it')
  const again = new Link(id, 'c2', ['delta'])
  delivery.ready(again)
  await quiet()
  t.same(again.take(), [], 'no delta')
  t.equal(delivery.stats.links, 2)
})

t.test('changes reach a connected device at once, in the order of versions, the newest for all that waited', async t => {
  const { twins, delivery, id } = await world(t)
  const link = new Link(id, 'c1', ['delta'])
  delivery.ready(link)
  await quiet()
  link.held = true
  for (let n = 1; n <= 20; n++) await twins.change(id, { desired: { n } }, operator)
  await link.has(1)
  t.equal(link.sent.length, 1, 'one is under way')
  link.held = false
  link.sent[0].ack()
  await link.has(2)
  await quiet()
  t.same(link.take(), [['twin/delta', 1, { n: 1 }], ['twin/delta', 20, { n: 20 }]])
  await twins.change(id, { desired: { n: null } }, operator)
  await link.has(1)
  t.same(link.take(), [['twin/delta', 21, {}]], 'what it was told is taken back')
  await twins.apply([message(id, { other: 1 })])
  await quiet()
  t.same(link.take(), [])
})

t.test('subscribing later, named twins, and a device that contradicts', async t => {
  const { twins, delivery, id } = await world(t)
  await twins.change({ ...id, name: 'meter' }, { desired: { k: 1 } }, operator)
  await twins.change(id, { desired: { a: 1 } }, operator)
  const link = new Link(id, 'c1', [])
  delivery.ready(link)
  await quiet()
  t.same(link.take(), [])
  link.topics.add(`devices/${id.device}/twin/meter/delta`)
  link.topics.add(`devices/${id.device}/twin/delta`)
  delivery.ready(link)
  await link.has(2)
  t.same(link.take().sort(), [['twin/delta', 2, { a: 1 }], ['twin/meter/delta', 1, { k: 1 }]])
  delivery.ready(link)
  await quiet()
  t.same(link.take(), [], 'what was sent is not sent again to the same subscription')
  await twins.apply([message(id, { a: 5 })])
  await quiet()
  t.same(link.take(), [], 'the same delta')
  await twins.change({ ...id, name: 'late' }, { desired: { z: 1 } }, operator)
  await quiet()
  link.topics.add(`devices/${id.device}/twin/late/desired`)
  delivery.ready(link)
  await link.has(1)
  t.same(link.take(), [['twin/late/desired', 1, { z: 1 }]])
  link.open = false
  delivery.ended(link)
  await twins.change(id, { desired: { a: 9 } }, operator)
  await quiet()
  t.same(link.take(), [])
})

t.test('what another node changed is heard of by the bell, and looked for when nodes hear each other again', async t => {
  const { store, delivery, bell, id } = await world(t, false)
  const relinked: (() => void)[] = []
  const deaf = new TwinDelivery({ twins: service(t, store, { authoritative: false }), bell: { ring: () => {}, onRing: () => () => {}, onRelinked: listener => { relinked.push(listener); return () => {} } }, log: silentLog })
  deaf.open()
  t.teardown(() => { deaf.close() })
  const elsewhere = service(t, store, { authoritative: false, writer: '00000000000000bb' })
  const link = new Link(id, 'c1', ['desired'])
  delivery.ready(link)
  const other = new Link(id, 'c2', ['desired'])
  deaf.ready(other)
  await quiet()
  await elsewhere.change(id, { desired: { a: 1 } }, operator)
  await quiet()
  t.same(link.take(), [])
  bell.ring(id.tenant, id.device, 'commands')
  bell.ring(id.tenant, id.device, 'twin', '')
  await link.has(1)
  t.same(other.take(), [])
  for (const tell of relinked) tell()
  await other.has(1)
  t.same(other.take(), [['twin/desired', 1, { a: 1 }]])
})

t.test('a store that is away delays what a device is sent, no more', async t => {
  const { store, id } = await world(t)
  const twins = service(t, store)
  await twins.change(id, { desired: { a: 1 } }, operator)
  let failures = 4
  const delivery = new TwinDelivery({
    twins: { onChanged: listener => twins.onChanged(listener), get: async asked => { if (failures-- > 0) throw new Error('planned'); return await twins.get(asked) } },
    bell: new DeviceBells({ bus: null }), log: silentLog, againMs: 5
  })
  delivery.open()
  t.teardown(() => { delivery.close() })
  const link = new Link(id, 'c1', ['desired', 'delta'])
  delivery.ready(link)
  await link.has(2)
  t.ok(delivery.stats.faults >= 1 && delivery.stats.faults <= 4, `${delivery.stats.faults} faults`)
  t.equal(link.sent.length, 2)
})

t.test('a device that asks for its twin is answered with it, or told why not', async t => {
  const { twins, id } = await world(t)
  const answers = new TwinAnswers({ twins, log: silentLog })
  await twins.change(id, { desired: { a: 1 }, tags: { site: 'x' } }, operator)
  const own = await answers.answer(id.tenant, id.device, '')
  t.equal(own.accepted, true)
  t.match(JSON.parse(own.body), { deviceId: id.device, version: 1, desired: { a: 1 }, reported: {}, delta: { a: 1 }, tags: { site: 'x' }, names: [], metadata: { desired: { a: { timestamp: Number } } } })
  t.match(await answers.answer(id.tenant, id.device, 'none'), { accepted: false, body: /not_found/ })
  t.match(await answers.answer(id.tenant, 'ghost', ''), { accepted: false, body: /not_found/ })
  const broken = new TwinAnswers({ twins: { get: async () => { throw new Error('secret') } }, log: silentLog })
  t.notMatch((await broken.answer(id.tenant, id.device, '')).body, /secret/)
})
