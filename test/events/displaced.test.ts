/** A log that puts events into their order, as the cluster's does where two nodes told of one twin: nothing is left out, nothing goes round in circles. */
import t from 'tap'
import { randomInt } from 'node:crypto'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import type { EventsOptions } from '../../src/events/events.js'
import { inSequence } from '../../src/store/in-sequence.js'
import { bench, eventOf, newReceiver, newStore, openEvents } from './events-bench.js'

t.setTimeout(60_000)

t.test('events that the log has put into their order all arrive, alone and in batches, from memory and from the log', async t => {
  const { store } = await newStore(t)
  const seed = randomInt(2 ** 31)
  t.comment(`seed ${seed}`)
  const random = seededRandom(seed)
  const ordering = new Proxy(store, {
    get: (target, name) => {
      if (name !== 'readEvents') return target[name as keyof typeof target]
      return async (lane: number, after: string, limit: number) => {
        const { events, position } = await target.readEvents(lane, after, limit)
        const placed = events.map(logged => ({ ...logged, placedUs: Number(logged.position) }))
        // All that is there may be put into order, and half of what comes next.
        const { events: next } = await target.readEvents(lane, position, 15)
        return inSequence(placed, next.map(logged => ({ ...logged, placedUs: Number(logged.position) })), { after, end: position, windowUs: 3600e6, limit })
      }
    }
  }) as EventsOptions['store']
  const events = openEvents(t, ordering)
  const receivers = await Promise.all([newReceiver(t), newReceiver(t), newReceiver(t)])
  for (const [i, maxBatch] of [1, 7, 100].entries()) await events.webhooks.create('acme', { id: `w${i}`, url: receivers[i].url, maxBatch })
  const sent = new Set<string>()
  const append = async (rounds: number, from: number): Promise<void> => {
    for (let round = 0; round < rounds; round++) {
      const group = Array.from({ length: 30 }, (_, i) => eventOf('acme', `d${i % 3}`, from + round * 30 + i))
      for (const { id } of group) sent.add(id)
      // Told by two nodes: here and there one too late, some twice.
      for (let i = 0; i < 6; i++) group.splice(Math.floor(random() * group.length), 0, ...group.splice(Math.floor(random() * group.length), 1), group[Math.floor(random() * (group.length - 1))])
      await store.appendEvents(group)
    }
  }
  await append(10, 0)
  for (const receiver of receivers) await receiver.until(() => new Set(receiver.ids).size === sent.size)
  for (let i = 0; i < 3; i++) await events.webhooks.setPaused('acme', `w${i}`, true)
  await append(10, 1000)
  for (let i = 0; i < 3; i++) await events.webhooks.setPaused('acme', `w${i}`, false)
  for (const receiver of receivers) {
    await receiver.until(() => new Set(receiver.ids).size === sent.size)
    t.ok(receiver.ids.length < sent.size * 4, `${receiver.ids.length} deliveries of ${sent.size} events`)
  }
  await events.webhooks.replay('acme', 'w0', Date.now() * 1000 - 60e6)
  const before = receivers[0].ids.length
  await receivers[0].until(() => new Set(receivers[0].ids.slice(before)).size === sent.size)
})

t.test('events without disorder come once each', async t => {
  const { store, events } = await bench(t)
  const receiver = await newReceiver(t)
  await events.webhooks.create('acme', { url: receiver.url, maxBatch: 3 })
  await store.appendEvents(Array.from({ length: 500 }, (_, i) => eventOf('acme', 'd', i)))
  await receiver.until(() => new Set(receiver.ids).size === 500)
  t.equal(receiver.ids.length, 500)
})
