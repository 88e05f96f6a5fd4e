/** A claim that runs out for a while, as under a store that is slow: the lane goes on when it is renewed. */
import t from 'tap'
import { setTimeout as pause } from 'node:timers/promises'
import { eventOf, newReceiver, newStore, openEvents } from './events-bench.js'
import type { EventsOptions } from '../../src/events/events.js'

t.setTimeout(30_000)

t.test('events that come while the claim has run out are delivered when it is held again, with no further news', async t => {
  const { store } = await newStore(t)
  const receiver = await newReceiver(t)
  let slow = false
  // The same store, whose claims take longer to be renewed than they last.
  const lagging = new Proxy(store, {
    get: (target, name) => {
      if (name !== 'takeClaim') return target[name as keyof typeof target]
      return async (...given: Parameters<typeof store.takeClaim>) => {
        while (slow) await pause(20)
        return await target.takeClaim(...given)
      }
    }
  }) as EventsOptions['store']
  const events = openEvents(t, lagging, { leaseMs: 1500 })
  await events.webhooks.create('acme', { url: receiver.url })
  await store.appendEvents([eventOf('acme', 'd', 1)])
  await receiver.until(() => receiver.events.length === 1)
  slow = true
  while (events.sinks.lanes > 0) await pause(20)
  await store.appendEvents([eventOf('acme', 'd', 2)])
  await pause(200)
  t.equal(receiver.events.length, 1, 'without a claim nothing is sent')
  slow = false
  await receiver.until(() => receiver.events.some(({ data }) => data.number === 2), 5000)
})
