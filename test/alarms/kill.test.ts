import t from 'tap'
import { startServer, temporaryDirectory, testAdminKey, type TestServer } from '../support/server.js'

interface Alarm { readonly device: string, readonly state: string, readonly causeId: string, readonly count: number }
interface Told { readonly id: string, readonly type: string, readonly device: string }

const devices = ['a', 'b', 'c', 'd']
const rounds = 2

async function alarmsOf (server: TestServer, key: string): Promise<readonly Alarm[]> {
  if (!server.running) throw new Error(`the server ended by itself\n${server.errorText}`)
  return ((await server.api(key).ask('GET', '/alarms')).body as { alarms: readonly Alarm[] }).alarms
}

async function until (what: string, done: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 30_000
  while (!await done()) {
    if (performance.now() > deadlineMs) throw new Error(`not in time: ${what}`)
    await new Promise(resolve => { setTimeout(resolve, 20) })
  }
}

t.test('through kill -9 at random moments every alarm is raised and cleared once', async t => {
  const { directory, remove } = await temporaryDirectory('alarm-kill')
  const settings = { TWINFOLD_ANALYTICS: 'off', TWINFOLD_SLICE_INTERVAL_MS: '10' }
  let server = await startServer({ directory, settings })
  t.teardown(async () => {
    await server.kill()
    await remove()
  })
  const seed = Math.floor(Math.random() * 2 ** 31)
  t.comment(`seed ${seed}`)
  let state = seed
  const random = (below: number): number => { state = (Math.imul(state, 1103515245) + 12345) >>> 0; return (state >>> 8) % below }
  const key = await server.api(testAdminKey).createTenant('acme', 365)
  await server.api(key).createDevices(devices)
  t.equal((await server.api(key).ask('PUT', '/alarm-rules/hot', { source: { metric: 't' }, condition: { op: 'gt', value: 80, clear: { value: 70 } } })).status, 201)
  let ts = Date.now() - 60_000
  for (let round = 1; round <= rounds; round++) {
    const send = async (value: number): Promise<void> => {
      for (const device of devices) {
        ts += 1
        const answer = await server.api(key).ask('POST', `/devices/${device}/telemetry`, { ts, values: { t: value } })
        if (answer.status !== 202) throw new Error(JSON.stringify(answer))
      }
    }
    await send(90)
    // Somewhere between the journal, the slice, the alarm's document, its event and the cursor.
    await new Promise(resolve => { setTimeout(resolve, random(60)) })
    await server.kill()
    server = await startServer({ directory, settings })
    await until('raised', async () => (await alarmsOf(server, key)).filter(alarm => alarm.state === 'active' && alarm.count === round).length === devices.length)
    await send(60)
    await new Promise(resolve => { setTimeout(resolve, random(60)) })
    await server.kill()
    server = await startServer({ directory, settings })
    await until('cleared', async () => (await alarmsOf(server, key)).filter(alarm => alarm.state === 'cleared' && alarm.count === round).length === devices.length)
  }
  await until('packed', async () => (await alarmsOf(server, key)).length === devices.length)
  await server.stop()
  const told = await eventsIn(directory)
  for (const device of devices) {
    const seen = new Set<string>()
    const once = told.filter(event => event.device === device && !seen.has(event.id) && seen.add(event.id))
    t.same(once.map(({ type }) => type), Array.from({ length: rounds * 2 }, (_, i) => i % 2 === 0 ? 'alarm.raised' : 'alarm.cleared'), device)
  }
})

async function eventsIn (directory: string): Promise<readonly Told[]> {
  const { openStore } = await import('../../src/store/open-store.js')
  const { systemClock } = await import('../../src/core/clock.js')
  const { silentLog } = await import('../../src/core/log.js')
  const { eventLanes } = await import('../../src/store/event-log.js')
  const { join } = await import('node:path')
  const store = await openStore({ kind: 'embedded', directory: join(directory, 'store') }, { clock: systemClock, log: silentLog, writer: true })
  const told: Told[] = []
  for (let lane = 0; lane < eventLanes; lane++) {
    for (let after = ''; ;) {
      const { events, position } = await store.readEvents(lane, after, 1000)
      for (const { event } of events) if (event.type.startsWith('alarm.')) told.push(event)
      if (events.length === 0) break
      after = position
    }
  }
  await store.close()
  return told
}
