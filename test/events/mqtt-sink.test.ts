/** Events as MQTT topics, from the switch to a subscriber of the real broker. */
import t from 'tap'
import { setTimeout as pause } from 'node:timers/promises'
import { silentLog } from '../../src/core/log.js'
import { DeadLetterEvents } from '../../src/events/dead-letter-events.js'
import { systemClock } from '../../src/core/clock.js'
import { bench, disordered, eventOf, openEvents, type CloudEvent } from './events-bench.js'

t.setTimeout(30_000)

interface Published { readonly tenant: string, readonly topic: string, readonly event: CloudEvent }

async function until (holds: () => boolean): Promise<void> {
  for (let i = 0; !holds(); i++) {
    if (i > 1000) throw new Error('not so after 10 s')
    await pause(10)
  }
}

t.test('events are published per device and type from the moment on that it is switched on, in order, and tried again while the broker fails', async t => {
  const published: Published[] = []
  let failing = 3
  const { store, events } = await bench(t, {
    publish: async (tenant, topic, payload) => {
      if (failing-- > 0) throw new Error('no broker')
      published.push({ tenant, topic, event: JSON.parse(payload.toString()) as CloudEvent })
    }
  })
  t.match(await events.webhooks.mqtt('acme'), { enabled: false })
  await store.appendEvents([eventOf('acme', 'd', 1)])
  await events.webhooks.setMqtt('acme', { enabled: true, types: ['twin.*', 'deadletter.added'] })
  await store.appendEvents([eventOf('acme', 'd', 2), eventOf('acme', 'd', 3, { type: 'command.changed' }), eventOf('acme', 'd', 4), eventOf('bolt', 'd', 5)])
  await store.appendEvents([eventOf('acme', '', 6, { type: 'deadletter.added', sequence: undefined })])
  await until(() => published.length === 3)
  t.same(published.map(({ topic }) => topic).sort(), ['twinfold/events/-/deadletter.added', 'twinfold/events/d/twin.changed', 'twinfold/events/d/twin.changed'])
  t.same(disordered(published.map(({ event }) => event)), [])
  t.ok(published.every(({ tenant, event }) => tenant === 'acme' && event.tenant === 'acme'))
  await events.webhooks.setMqtt('acme', { enabled: false })
  await store.appendEvents([eventOf('acme', 'd', 7)])
  await events.webhooks.setMqtt('acme', { enabled: true })
  await store.appendEvents([eventOf('acme', 'd', 8)])
  await until(() => published.length === 4)
  t.equal(published[3].event.data.number, 8, 'what happened while it was off is not published')
  t.same((await events.webhooks.mqtt('acme')).types, ['twin.*', 'deadletter.added'], 'the choice of types stays')
  t.same(await events.webhooks.list('acme'), [], 'it is no webhook')
})

t.test('dead letters become one event a tenant, reason and second; while the log fails they wait', async t => {
  const { store } = await bench(t)
  let failing = true
  const told = new DeadLetterEvents({ log: { appendEvents: async list => { if (failing) throw new Error('down'); await store.appendEvents(list) } }, owner: 'o', clock: systemClock, logger: silentLog, everyMs: 60_000, countsMax: 3 })
  for (let i = 0; i < 100; i++) told.note('acme', 'json_invalid', 2)
  told.note('acme', undefined, 1)
  told.note('bolt', 'json_invalid', 1)
  told.note('cork', 'json_invalid', 5)
  await told.flush()
  t.equal(told.stats.failures, 1)
  told.note('acme', 'json_invalid', 7)
  failing = false
  const published: CloudEvent[] = []
  const events = openEvents(t, store, { publish: async (_tenant, _topic, payload) => { published.push(JSON.parse(payload.toString()) as CloudEvent) } })
  await events.webhooks.setMqtt('acme', { enabled: true })
  await told.flush()
  await told.close()
  // Those of the first second bear its stamp, which lies before the switch.
  await until(() => published.length >= 1)
  t.match(published.at(-1), { type: 'io.twinfold.deadletter.added', source: '/tenants/acme', data: { reason: 'json_invalid', count: 7 } })
  t.equal(told.stats.told, 4)
  t.equal(told.stats.uncounted, 5)
})
