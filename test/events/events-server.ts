/** A process with an embedded store and its events out, for the suite that kills it: appends events as fast as they are durable. */
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { Events } from '../../src/events/events.js'
import { openEmbeddedStore } from '../../src/store/embedded/embedded-store.js'
import { eventOf, quickPolicy } from './events-bench.js'

const [directory, tenant, url, from] = process.argv.slice(2)
const store = await openEmbeddedStore({ directory, clock: systemClock, log: silentLog, writer: true })
const events = new Events({ store, clock: systemClock, log: silentLog, owner: `p${process.pid}`, node: 'a', live: null, targets: { allowPrivate: true, allow: [] }, policy: quickPolicy, timeoutMs: 2000 })
events.open()
for (const [id, maxBatch] of [['single', 1], ['batch', 20]] as const) {
  await events.webhooks.create(tenant, { id, url: `${url}/${id}`, maxBatch }).catch((error: { code?: string }) => { if (error.code !== 'already_exists') throw error })
}
let number = Number(from)
let stop = false
process.on('message', () => { stop = true })
process.send?.({ ready: true })
while (!stop) {
  const group = Array.from({ length: 8 }, (_, i) => eventOf(tenant, `d${i}`, number))
  await store.appendEvents(group)
  process.send?.({ appended: number })
  number++
  await new Promise(resolve => { setTimeout(resolve, 4) })
}
process.send?.({ stopped: true })
