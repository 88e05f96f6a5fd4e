/** Servers with connections are killed: their devices are not connected any more, and every connection that was told has its end told. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import t from 'tap'
import { StampClock, systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { NodeMembership } from '../../src/nodes/node-membership.js'
import { PresenceService } from '../../src/presence/presence-service.js'
import type { OutEvent } from '../../src/store/event-log.js'
import { openNodes } from '../../src/store/open-nodes.js'
import { openStore } from '../../src/store/open-store.js'
import type { StoreSpec } from '../../workers/protocol.js'
import { dropKeyspace } from '../support/keyspace.js'
import { newTestName, services, skipWithout } from '../support/services.js'
import { newSeed } from '../store/store-fixtures.js'
import type { ServerTask } from './presence-server.js'
import { allEvents, dataOf, newDirectory, openStoreIn, serviceOf, sessionOf, until, written } from './support.js'

t.setTimeout(120_000)

const serverFile = fileURLToPath(new URL('./presence-server.js', import.meta.url))

interface Teardown { teardown(undo: () => unknown): unknown }

async function startProcess (t: Teardown, task: ServerTask): Promise<ChildProcess> {
  const child = spawn(process.execPath, [serverFile, JSON.stringify(task)], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => { child.kill('SIGKILL') })
  const [said] = await Promise.race([once(child.stdout, 'data'), once(child, 'exit').then(([code]) => [`ended with ${String(code)}`])]) as [Buffer | string]
  if (said.toString() !== 'ready\n') throw new Error(said.toString())
  return child
}

async function kill (child: ChildProcess): Promise<void> {
  const gone = once(child, 'exit')
  child.kill('SIGKILL')
  await gone
}

/** Connections whose events are not as promised: one without its other, an end before its begin. Either may be told again. */
function wrongOf (events: readonly OutEvent[], isOpen: (connection: string) => boolean): string[] {
  const told = new Map<string, string[]>()
  for (const event of events) {
    const { connection } = dataOf(event)
    const name = `${event.device} ${connection}`
    told.set(name, [...told.get(name) ?? [], event.type === 'device.connected' ? 'c' : 'd'])
  }
  return [...told].filter(([name, [...order]]) => {
    const wanted = isOpen(name.split(' ')[1]) ? /^c+$/ : /^c[cd]*d$/
    return !wanted.test(order.join(''))
  }).map(([name, order]) => `${name}: ${order.join('')}`)
}

void t.test('embedded: after kill -9 no device is connected, from the first answer on, and all ends are told', async t => {
  const seed = newSeed()
  t.comment(`seed ${seed}`)
  const directory = newDirectory(t)
  const devices = Array.from({ length: 60 }, (_, i) => `d${i}`)
  for (let round = 0; round < 2; round++) {
    const child = await startProcess(t, { spec: { kind: 'embedded', directory }, node: '', bootId: `boot-${round}`, seed: seed + round, devices: devices.length, flaps: true })
    await new Promise(resolve => { setTimeout(resolve, 150 + (seed + round * 97) % 200) })
    const killedUs = systemClock.nowUs()
    await kill(child)
    const store = await openStoreIn(t, directory)
    const service = serviceOf({ store, bootId: `after-${round}` })
    await service.open()
    const first = await service.view('t', devices)
    t.equal(first.filter(({ connected }) => connected).length, 0)
    t.ok(first.some(({ reason }) => reason === 'node_lost'), 'some are lost')
    t.ok(first.every(({ since }) => since > 0 && since <= killedUs), 'at a time that is past')
    const back = sessionOf('t', 'd0', { connection: `after-${round}-d0` })
    service.opened(back)
    await until('all are swept', async () => (await store.presenceBoots()).filter(boot => boot.swept !== 'yes').length === 1)
    await written(service)
    const after = await service.view('t', devices)
    t.strictSame(after.filter(({ connected }) => connected).map(({ connection }) => connection), [back.connection], 'the one that came back')
    t.strictSame(wrongOf(await allEvents(store), connection => connection === back.connection), [])
    service.closed(back, 'server_stopped', 0)
    await service.close()
    await store.close()
  }
})

/** This process as a node. */
async function joinHere (t: Teardown, spec: StoreSpec & { kind: 'cluster' }, node: string): Promise<{ service: PresenceService, store: Awaited<ReturnType<typeof openStore>> }> {
  const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: true })
  const opened = openNodes(spec.redis, { clock: systemClock, log: silentLog })
  const stamps = new StampClock(systemClock, 0)
  const membership = new NodeMembership({ name: node, bootId: `boot-${node}`, store: opened.nodes, clock: systemClock, log: silentLog, journal: { journalId: '00000000000000ff', get stampLast () { return stamps.last }, observeStamp: stamp => { stamps.observe(stamp) } } })
  await membership.open()
  const service = new PresenceService({ store, membership, node, bootId: `boot-${node}`, staleAfterS: 900, clock: systemClock, log: silentLog })
  await service.open()
  t.teardown(async () => {
    await service.close()
    await membership.close()
    await opened.close()
    await store.close()
  })
  return { service, store }
}

void t.test('cluster: when a node is killed its devices are lost for the other within its lease, and told within half a minute', async t => {
  const { cassandra, redis } = services()
  if (skipWithout(t, 'cassandra') || skipWithout(t, 'redis') || cassandra === null || redis === null) return
  const name = newTestName()
  const spec = {
    kind: 'cluster', outbox: false, redis: { url: redis.url, prefix: name },
    cassandra: { contactPoints: [cassandra.contactPoint], dataCenter: cassandra.dataCenter, keyspace: name, replication: {}, consistency: 'LOCAL_QUORUM', user: '', password: '', tls: false }
  } as const
  t.teardown(async () => {
    await dropKeyspace(name)
    const client = new Redis(redis.url)
    await client.unlink(`${name}:nodes`)
    client.disconnect()
  })
  const startUs = systemClock.nowUs()
  const { service, store } = await joinHere(t, spec, 'b')
  const devices = Array.from({ length: 40 }, (_, i) => `d${i}`)
  const child = await startProcess(t, { spec, node: 'a', bootId: 'boot-a', seed: 1, devices: devices.length, flaps: false })
  await until('the other node sees them', async () => (await service.view('t', devices)).every(({ connected, node }) => connected && node === 'a'))
  // One moves before its node dies.
  const moved = sessionOf('t', 'd0')
  service.opened(moved)
  await written(service)
  await kill(child)
  const killedMs = performance.now()
  await until('they are shown as lost', async () => (await service.view('t', devices)).filter(({ connected }) => connected).length === 1, 20_000)
  const shownMs = performance.now() - killedMs
  t.match((await service.view('t', ['d0', 'd1'])), [{ connected: true, node: 'b' }, { connected: false, reason: 'node_lost', node: 'a' }])
  await until('their ends are told', () => service.stats.connectionsLost >= devices.length, 30_000)
  const toldMs = performance.now() - killedMs
  t.comment(`shown as lost after ${Math.round(shownMs)} ms, told after ${Math.round(toldMs)} ms`)
  t.ok(shownMs < 10_000 && toldMs < 30_000)
  await new Promise(resolve => { setTimeout(resolve, store.settleMs) })
  const events = await allEvents(store, undefined, startUs - 1e6)
  t.strictSame(wrongOf(events, connection => connection === moved.connection), [])
  const lost = events.filter(({ type, device }) => type === 'device.disconnected' && device === 'd0')
  t.equal(dataOf(lost[0]).connected, true, 'the one that moved stays connected')
})
