/** A process that commits until it is killed, and tells of each commit when it was acknowledged (embedded-entities.test.ts). */
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { openEmbeddedStore } from '../../src/store/embedded/embedded-store.js'
import { commitOf, eventOf, keyOf } from './entity-store.contract.js'
import { outEventOf } from './event-log.contract.js'

const store = await openEmbeddedStore({ directory: process.argv[2], clock: systemClock, log: silentLog, writer: true })
process.stdout.write('open\n')

async function write (device: string): Promise<void> {
  const key = keyOf('killed', device)
  for (let i = 0; ; i++) {
    const { version } = await store.getEntity(key)
    const next = version + 1 + i % 3
    const events = Array.from({ length: next - version }, (_, n) => eventOf(version + 1 + n, 'e'.repeat(300)))
    const outbox = events.map(event => outEventOf('killed', device, event.version))
    const commit = commitOf(key, version, { version: next, state: JSON.stringify({ at: next, fill: 's'.repeat(1000) }), events, items: events.map(event => ({ id: String(event.version), body: 'i' })), outbox })
    const [done] = await store.commitEntities([commit], i % 2 === 0)
    if (!done) throw new Error('refused')
    process.stdout.write(`${device} ${next}\n`)
  }
}

await Promise.all(Array.from({ length: 12 }, async (_, i) => { await write(`d${i}`) }))
