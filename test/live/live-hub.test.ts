import t, { type Test } from 'tap'
import fc from 'fast-check'
import { systemClock } from '../../src/core/clock.js'
import { liveFilter } from '../../src/core/live-filter.js'
import type { LiveLimits } from '../../src/core/limits.js'
import { silentLog } from '../../src/core/log.js'
import { LatestValues } from '../../src/live/latest-values.js'
import { LiveHub, type WatchRequest } from '../../src/live/live-hub.js'
import type { LiveSink } from '../../src/live/live-subscriber.js'
import { WantTable } from '../../src/live/want-table.js'
import { openLiveBus } from '../../src/store/open-live.js'
import type { Principal } from '../../src/tenancy/model.js'
import type { LiveGroup, LiveWants } from '../../workers/live-protocol.js'
import type { PackResult, PackTask } from '../../workers/protocol.js'
import { startPrivateRedis } from '../support/private-redis.js'
import { newTestName } from '../support/services.js'

const filter = liveFilter({ form: 'sse', times: 'ms', metrics: null })
const principal: Principal = { credentialId: 'c', role: 'operator', tenant: 'acme', device: null }

/** A socket that takes what the test lets it. */
class Collected implements LiveSink {
  writable = true
  readonly got: string[] = []
  ended = false
  readings (device: string, text: string): void { this.got.push(`reading ${device} ${text.trim()}`) }
  latest (device: string, latest: string): void { this.got.push(`latest ${device} ${latest}`) }
  event (name: string, data: Readonly<Record<string, unknown>>): void { this.got.push(`${name} ${JSON.stringify(data)}`) }
  keepAlive (): void {}
  flush (): void {}
  end (): void { this.ended = true }
  async until (holds: (got: readonly string[]) => boolean, timeoutMs = 10_000): Promise<void> {
    for (let waitedMs = 0; !holds(this.got); waitedMs += 10) {
      if (waitedMs > timeoutMs) throw new Error(`not so: ${JSON.stringify(this.got.slice(-10))}`)
      await new Promise(resolve => { setTimeout(resolve, 10) })
    }
  }
}

/** A hub with a packer that the test drives. */
class Node {
  readonly hub: LiveHub
  #mark = 0
  /** What the last slice was given. */
  wants: LiveWants | undefined
  hold: Promise<void> = Promise.resolve()
  latest = '{}'
  readonly #pool

  constructor (t: Test, redis: { url: string, prefix: string } | null = null, limits: Partial<LiveLimits> = {}) {
    this.hub = new LiveHub({ clock: systemClock, log: silentLog, limits })
    let groups: readonly LiveGroup[] = []
    this.#pool = {
      next: (given: readonly LiveGroup[]) => { groups = given },
      ...this.hub.on({
        threads: 1,
        pack: async (task: PackTask) => {
          const live = task.live === undefined ? {} : { live: { groups, lossy: [] } }
          this.wants = task.live
          await this.hold
          return live as unknown as PackResult
        },
        packHot: async () => await Promise.resolve({ put: true })
      })
    }
    const queries = { run: async () => await Promise.resolve({ body: Buffer.from(this.latest), readings: 1, lastTs: null, more: false }) }
    const tenants = { get: async (id: string) => await Promise.resolve({ id, name: id, createdAt: 0, retention: [{ sinceStamp: 0, days: 1 }], disabled: false }) }
    this.hub.open({ latest: new LatestValues({ queries, tenants, nowUs: () => systemClock.nowUs() }), bus: redis === null ? null : openLiveBus(redis, { clock: systemClock, log: silentLog }) })
    t.teardown(async () => { await this.hub.close() })
  }

  async pack (...readings: readonly (readonly [device: string, ts: number, value: number])[]): Promise<void> {
    const mark = ++this.#mark
    this.#pool.next(readings.map(([device, ts, value]) => ({
      tenant: 'acme', device, filter: filter.key, id: `00000000000000aa.${mark}`, readings: 1, text: `${value}`, omitted: 0, newest: JSON.stringify([['m', ts, `"m":{"ts":${ts},"value":${value}}`]])
    })))
    await this.#pool.pack({ mark: { to: mark } } as unknown as PackTask)
  }

  watch (devices: readonly string[] | null, more: Partial<WatchRequest> = {}): Collected {
    const sink = new Collected()
    this.hub.watch({ principal, tenant: 'acme', devices, latestOf: devices ?? [], filter, sink, ...more })
    return sink
  }
}

t.test('a slice that began before somebody watched is waited for before the latest values are asked', async t => {
  const node = new Node(t)
  let release = (): void => {}
  node.hold = new Promise(resolve => { release = resolve })
  const running = node.pack(['a', 1, 1])
  const sink = node.watch(['a'])
  await new Promise(resolve => { setTimeout(resolve, 100) })
  t.strictSame(sink.got, [], 'its readings are neither in the stream nor, yet, in the store')
  node.latest = '{"m":{"ts":1,"value":1}}'
  release()
  await running
  await sink.until(got => got.length === 2)
  t.strictSame(sink.got, ['latest a {"m":{"ts":1,"value":1}}', 'ready {"devices":1}'])
  await node.pack(['a', 2, 2])
  t.strictSame(sink.got.slice(2), ['reading a 2'])
})

t.test('nothing goes with a slice while nobody watches', async t => {
  const node = new Node(t, null, { lingerMs: 10 })
  await node.pack(['a', 1, 1])
  t.equal(node.wants, undefined)
  const sink = new Collected()
  const subscriber = node.hub.watch({ principal, tenant: 'acme', devices: ['a'], latestOf: [], filter, sink })
  await sink.until(got => got.length === 1)
  await node.pack(['a', 1, 1])
  t.ok(node.wants)
  node.hub.end(subscriber)
  await new Promise(resolve => { setTimeout(resolve, 100) })
  await node.pack(['a', 1, 1])
  t.equal(node.wants, undefined)
})

t.test('a watcher that lags gets counts and the newest values, and a late point replaces no newer one', async t => {
  const node = new Node(t, null, { queueReadingsMax: 2 })
  const sink = new Collected()
  const subscriber = node.hub.watch({ principal, tenant: 'acme', devices: ['a', 'b'], latestOf: [], filter, sink })
  await sink.until(got => got.length === 1)
  sink.writable = false
  await node.pack(['a', 10, 1], ['b', 10, 2])
  await node.pack(['a', 30, 3])
  await node.pack(['a', 20, 4], ['b', 11, 5])
  t.equal(sink.got.length, 1)
  sink.writable = true
  subscriber.drained()
  t.strictSame(sink.got.slice(1), ['reading a 1', 'reading b 2', 'dropped {"readings":3}', 'latest a {"m":{"ts":30,"value":3}}', 'latest b {"m":{"ts":11,"value":5}}'])
  await node.pack(['b', 12, 6])
  t.strictSame(sink.got.slice(6), ['reading b 6'])
  t.match(node.hub.stats, { dropped: 3, delivered: 3 })
})

t.test('while Redis is away watchers hear of a gap, readings of their own node go on, and after it those of other nodes are back', async t => {
  const redis = await startPrivateRedis()
  t.teardown(async () => { await redis.close() })
  const at = { url: redis.url, prefix: newTestName() }
  const [a, b] = [new Node(t, at), new Node(t, at)]
  for (let waitedMs = 0; a.hub.nodeStats?.nodes !== 1 || b.hub.nodeStats?.nodes !== 1; waitedMs += 20) {
    if (waitedMs > 10_000) throw new Error('the nodes do not see each other')
    await new Promise(resolve => { setTimeout(resolve, 20) })
  }
  const sink = a.watch(['d'])
  await sink.until(got => got.includes('ready {"devices":1}'))
  t.notOk(sink.got.some(line => line.startsWith('gap')))
  await b.pack(['d', 1, 1], ['other', 1, 2])
  await sink.until(got => got.includes('reading d 1'))
  await redis.kill()
  await sink.until(got => got.some(line => line.startsWith('gap')), 15_000)
  await a.pack(['d', 2, 3])
  t.ok(sink.got.includes('reading d 3'))
  await redis.start()
  await sink.until(got => got.filter(line => line.startsWith('gap')).length === 2, 20_000)
  for (let attempt = 0; !sink.got.includes('reading d 4'); attempt++) {
    if (attempt > 200) throw new Error('nothing comes from the other node any more')
    await b.pack(['d', 3, 4])
    await new Promise(resolve => { setTimeout(resolve, 50) })
  }
  t.notOk(sink.got.some(line => line.startsWith('reading other')))
})

t.test('the table names exactly who wants a reading, whatever came and went', async t => {
  const step = fc.record({ add: fc.boolean(), tenant: fc.constantFrom('x', 'y'), device: fc.constantFrom(null, 'd1', 'd2', '__proto__'), filter: fc.constantFrom('f', 'g'), target: fc.nat(3) })
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), steps => {
    const table = new WantTable<number>()
    const model = new Set<string>()
    for (const { add, tenant, device, filter: key, target } of steps) {
      const before = table.version
      const wantedBefore = JSON.stringify(table.wanted(100))
      table[add ? 'add' : 'remove'](tenant, device, { ...filter, key }, target)
      const name = JSON.stringify([tenant, device, key, target])
      if (add) model.add(name)
      else model.delete(name)
      if (JSON.stringify(table.wanted(100)) !== wantedBefore && table.version === before) throw new Error('the version does not tell of a change')
    }
    if (table.pairs !== model.size || table.empty !== (model.size === 0)) throw new Error('counts')
    for (const tenant of ['x', 'y']) {
      for (const device of ['d1', 'd2', '__proto__']) {
        for (const key of ['f', 'g']) {
          const got: number[] = []
          table.eachTarget({ tenant, device, filter: key }, target => { got.push(target) })
          const wanted = [0, 1, 2, 3].filter(target => model.has(JSON.stringify([tenant, device, key, target])) || model.has(JSON.stringify([tenant, null, key, target])))
          if (JSON.stringify(got.sort()) !== JSON.stringify(wanted)) throw new Error(`${tenant} ${device} ${key}: ${got.join()} instead of ${wanted.join()}`)
        }
      }
    }
  }), { numRuns: 300, seed: 11 })
  t.pass()
})
