import t, { type Test } from 'tap'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { shardOf } from '../../src/core/ids.js'
import { usPerHour } from '../../src/core/reading.js'
import { openStore } from '../../src/store/open-store.js'
import type { StoreSpec } from '../../workers/protocol.js'
import type { SealTask } from '../../workers/seal-protocol.js'
import { migratedKeyspace } from '../store/cassandra-fixture.js'
import { services, skipWithout } from '../support/services.js'
import { dayAgo, planOfWidth, SealWorld } from './seal-world.js'

t.setTimeout(180_000)

const start = dayAgo(5)
const childFile = fileURLToPath(new URL('./paused-sealer.js', import.meta.url))

async function cluster (t: Test): Promise<StoreSpec | null> {
  if (skipWithout(t, 'cassandra') || skipWithout(t, 'redis')) return null
  const cassandra = await migratedKeyspace(t)
  return { kind: 'cluster', cassandra, redis: { url: services().redis?.url as string, prefix: cassandra.keyspace }, outbox: false }
}

void t.test('a sealer stopped by SIGSTOP while another takes over with a higher epoch loses nothing and overwrites nothing', { timeout: 170_000 }, async t => {
  const spec = await cluster(t)
  if (spec === null) return
  const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: true })
  t.teardown(async () => { await store.close() })
  const world = await SealWorld.make(store, { tenant: 'acme', devices: new Map([['afterHead', planOfWidth(1440, 2)], ['beforeWrite', planOfWidth(1440, 2)], ['afterWrite', planOfWidth(60)]]) })
  for (const step of ['afterHead', 'beforeWrite', 'afterWrite'] as const) {
    const bucket = step === 'afterWrite' ? { start: start + usPerHour, widthMinutes: 60 } as const : { start, widthMinutes: 1440 } as const
    const at = (minute: number): number => start + usPerHour + minute * 60e6
    const claim = await store.takeClaim(`test/${step}`, 'first', 1500)
    t.equal(claim?.epoch, 1)
    await world.send([{ device: step, ts: at(0), values: { v: 1, s: 'a' } }, { device: step, ts: at(1), values: { v: 2, on: true } }])
    const stamp = world.takeStamps(1)
    const task: SealTask = {
      kind: 'seal', tenant: 'acme', device: step, bucket, generation: { epoch: claim?.epoch as number, sequence: stamp }, asOf: stamp,
      nowUs: systemClock.nowUs(), leaseEndUs: systemClock.nowUs() + 60e6, growing: false, again: false, outbox: null
    }
    const child = spawn(process.execPath, [childFile, JSON.stringify({ spec, task, pauseAt: step })], { stdio: ['ignore', 'pipe', 'inherit'] })
    t.teardown(() => { child.kill('SIGKILL') })
    const exited = once(child, 'exit')
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
    t.equal((await lines.next()).value, 'here')
    child.kill('SIGSTOP')
    await world.send([{ device: step, ts: at(1), values: { v: 20 } }, { device: step, ts: at(2), values: { v: 3 } }])
    await new Promise(resolve => { setTimeout(resolve, 1600) })
    t.equal((await store.takeClaim(`test/${step}`, 'second', 30_000))?.epoch, 2, 'the claim is free when its lease is over')
    const sealer = world.sealer({ owner: 'second' })
    // The shard's own claim, at an epoch above the first one's.
    await store.takeClaim(`seal/${shardOf(step)}`, 'first', 1)
    await new Promise(resolve => { setTimeout(resolve, 5) })
    await sealer.sealDue()
    await world.send([{ device: step, ts: at(3), values: { v: 4 } }])
    t.same(await world.compare(), [], `${step}: after the take-over`)
    child.kill('SIGCONT')
    const outcome = (await lines.next()).value as string
    t.match(outcome, /sealed|lease-over/)
    await exited
    t.same(await world.compare(), [], `${step}: after it woke up`)
    t.same((await world.verify()).listed, [])
    await sealer.sealDue()
    t.same(await world.compare(), [], `${step}: after the next seal`)
    t.same((await world.verify()).listed, [])
    t.equal(await world.headSlices(), 0)
    await sealer.close()
  }
})

void t.test('late, repeated and corrected points on Cassandra, sealed in between by two nodes', { timeout: 170_000 }, async t => {
  const spec = await cluster(t)
  if (spec === null) return
  const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: true })
  t.teardown(async () => { await store.close() })
  const devices = new Map([['a', planOfWidth(1440, 3)], ['b', planOfWidth(60)], ['c', planOfWidth(43_200)]])
  const world = await SealWorld.make(store, { tenant: 'acme', devices })
  const nodes = ['one', 'two'].map(node => world.sealer({ node, owner: node, nodes: () => ['one', 'two'] }))
  const written = []
  for (let step = 0; step < 8; step++) {
    written.push(await world.send([...devices.keys()].flatMap(device => Array.from({ length: 12 }, (_, i) => ({
      device, ts: start + (step * 12 + i * 7 % 40) * 600e6, values: { v: step + i / 10, s: i % 2 === 0 ? 'on' : 'off', b: i % 3 === 0 }
    }))), step % 2 === 0 ? '00000000000000aa' : '00000000000000bb'))
    if (step % 2 === 1) await Promise.all(nodes.map(async node => { await node.sealDue() }))
    if (step === 5) await store.raw.writeHead(written[0])
  }
  for (const node of nodes) await node.sealDue()
  t.same(await world.compare(), [])
  const verified = await world.verify()
  t.same(verified.listed, [])
  t.ok(verified.buckets > 10)
  t.equal(await world.headSlices(), 0)
  t.ok(nodes.every(node => node.stats.sealed > 0) || devices.size < 3, 'both had their share')
  for (const node of nodes) await node.close()
})
