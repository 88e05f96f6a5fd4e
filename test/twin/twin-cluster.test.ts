import t from 'tap'
import type { Test } from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { TwinfoldError } from '../../src/core/errors.js'
import { silentLog } from '../../src/core/log.js'
import type { EntityKey } from '../../src/store/entity-store.js'
import { openStore } from '../../src/store/open-store.js'
import type { Store } from '../../src/store/store.js'
import type { ChangeOutcome, TwinId } from '../../src/twin/twin-model.js'
import type { TwinService, TwinServiceOptions } from '../../src/twin/twin-service.js'
import { rebuildTwins } from '../../src/twin/rebuild-twins.js'
import { newKeyspace } from '../store/cassandra-fixture.js'
import { services, skipWithout } from '../support/services.js'
import { message, newDevice, nowStamp, operator, service, toldEvents } from './twin-world.js'

const journalA = '00000000000000aa'
const journalB = '00000000000000bb'
const keyOf = (id: TwinId): EntityKey => ({ ...id, kind: 'twin' })

/** Two stores on one keyspace, as two nodes have them. */
async function twoStores (t: Test): Promise<[Store, Store]> {
  const cassandra = newKeyspace(t)
  const spec = { kind: 'cluster', cassandra, redis: { url: services().redis?.url as string, prefix: cassandra.keyspace }, outbox: false } as const
  const a = await openStore(spec, { clock: systemClock, log: silentLog, writer: true })
  t.teardown(async () => { await a.close() })
  const b = await openStore(spec, { clock: systemClock, log: silentLog, writer: false })
  t.teardown(async () => { await b.close() })
  return [a, b]
}

/** The same store where commits are made as told: `untold` dies before the event log hears of them, `lost` before the answer. */
function broken (store: Store, how: () => 'untold' | 'lost' | null): Store {
  return Object.create(store, {
    commitEntities: {
      value: async (...[commits, sync]: Parameters<Store['commitEntities']>) => {
        const fault = how()
        const done = await store.commitEntities(fault === null ? commits : commits.map(commit => ({ ...commit, outbox: [] })), sync)
        if (fault === 'lost') throw new TwinfoldError('store_unavailable', 'planned: the answer was lost')
        return done
      }
    }
  }) as Store
}

/** Every version told, the first time in order. */
async function requireTold (t: Test, store: Store, tenant: string, versions: number): Promise<void> {
  await new Promise(resolve => { setTimeout(resolve, store.settleMs + 50) })
  const told = await toldEvents(store, tenant, ['pump-1'])
  const first = [...new Set(told.map(event => event.sequence?.number ?? 0))]
  t.same(first, Array.from({ length: versions }, (_, i) => i + 1), 'every step is told, none before the one before it')
  const byId = new Map(told.map(event => [event.id, event.data]))
  t.ok(told.every(event => byId.get(event.id) === event.data), 'what is told again is told in the same words')
}

t.test('twins on a cluster', async t => {
  if (skipWithout(t, 'cassandra') || skipWithout(t, 'redis')) return
  const [a, b] = await twoStores(t)
  const node = (store: Store, writer: string, more: Partial<TwinServiceOptions> = {}): TwinService => service(t, store, { writer, authoritative: false, ...more })

  t.test('two nodes with many writers on one twin: a version and an event for each change, no gap', async t => {
    const nodes = [node(a, journalA), node(b, journalB)]
    const id = await newDevice(a)
    const [writers, each] = [5, 8]
    const count = 2 * writers * each
    const outcomes = (await Promise.all(nodes.flatMap((twins, n) => Array.from({ length: writers }, async (_, w) => {
      const made: ChangeOutcome[] = []
      for (let i = 0; i < each; i++) made.push(await twins.change(id, { desired: { [`n${n}_${w}_${i}`]: i } }, operator))
      return made
    })))).flat()
    t.ok(outcomes.every(outcome => outcome.kind === 'changed'))
    const versions = outcomes.map(outcome => 'twin' in outcome ? outcome.twin.version : 0).sort((x, y) => x - y)
    t.same(versions, Array.from({ length: count }, (_, i) => i + 1), 'every change has a version of its own')
    t.equal(Object.keys((await nodes[0].get(id))?.desired ?? {}).length, count, 'none was overwritten')
    const events = await a.readEntityEvents(keyOf(id), 1, 1000, 1000)
    t.same(events.map(event => event.version), versions)
    t.ok(nodes.some(twins => twins.stats.conflicts > 0), `${nodes.map(twins => twins.stats.conflicts).join(' and ')} conflicts, ${nodes.map(twins => twins.stats.commits).join(' and ')} commits`)
    await requireTold(t, a, id.tenant, count)
    t.match(await rebuildTwins({ store: a, tenant: id.tenant, write: false, writer: 'x', nowStamp }), { twins: 1, differing: 0, unprovable: 0 })
  })

  t.test('of writers on two nodes with the same If-Match one succeeds', async t => {
    const nodes = [node(a, journalA), node(b, journalB)]
    const id = await newDevice(a)
    await nodes[0].change(id, { desired: { a: 0 } }, operator)
    for (let version = 1; version <= 5; version++) {
      const outcomes = await Promise.all([0, 1, 0, 1].map(async (n, i) => await nodes[n].change(id, { desired: { a: version * 10 + i }, ifVersion: version }, operator)))
      t.equal(outcomes.filter(outcome => outcome.kind === 'changed').length, 1)
      t.equal(outcomes.filter(outcome => outcome.kind === 'precondition_failed').length, 3)
    }
    t.equal((await nodes[1].get(id))?.version, 6)
  })

  t.test('a node that dies between commit and event log: who goes on tells its events first', async t => {
    const id = await newDevice(a)
    let dead = false
    const first = node(broken(a, () => dead ? 'untold' : null), journalA)
    await first.apply([message(id, { a: 1 }, { journalId: journalA })])
    dead = true
    await first.apply([message(id, { a: 2 }, { journalId: journalA }), message(id, { b: 2 }, { journalId: journalA })])
    const second = node(b, journalB)
    await second.change(id, { desired: { c: 1 } }, operator)
    await requireTold(t, b, id.tenant, 4)
  })

  t.test('a node that dies so and comes back tells them itself, from messages and from intents', async t => {
    const [reported, desired] = [await newDevice(a), await newDevice(a)]
    const dying = node(broken(a, () => 'untold'), journalA)
    const said = message(reported, { a: 1 }, { journalId: journalA })
    await dying.apply([said])
    await dying.change(desired, { desired: { a: 1 } }, operator)
    const back = node(a, journalA)
    t.match(await back.apply([{ ...said, replayed: true }]), [{ kind: 'unchanged', version: 1 }])
    await back.repeat(keyOf(desired))
    await requireTold(t, a, reported.tenant, 1)
    await requireTold(t, a, desired.tenant, 1)
  })

  t.test('a commit whose answer was lost is neither repeated nor forgotten', async t => {
    const id = await newDevice(a)
    let fault: 'lost' | null = 'lost'
    const twins = node(broken(a, () => fault), journalA)
    const messages = [message(id, { a: 1 }, { journalId: journalA }), message(id, { b: 1 }, { journalId: journalA })]
    await t.rejects(twins.apply(messages), { code: 'store_unavailable' })
    fault = null
    t.same((await twins.apply(messages)).map(outcome => outcome.kind), ['unchanged', 'unchanged'])
    t.match(await twins.get(id), { version: 2, reported: { a: 1, b: 1 } })
    await twins.change(id, { desired: { x: 1 } }, operator)
    await requireTold(t, a, id.tenant, 3)
  })

  t.test('a report that comes delayed through another node loses against what was accepted later', async t => {
    const id = await newDevice(a)
    const nodes = [node(a, journalA), node(b, journalB)]
    const [early, middle, late] = [nowStamp(), nowStamp(), nowStamp()]
    await nodes[0].apply([message(id, { a: 1 }, { journalId: journalA, stamp: early })])
    await nodes[0].apply([message(id, { a: 1 }, { journalId: journalA, stamp: late })])
    t.match(await nodes[1].apply([message(id, { a: 2, b: 2 }, { journalId: journalB, stamp: middle })]), [{ kind: 'applied' }])
    t.match(await nodes[0].get(id), { reported: { a: 1, b: 2 } })
  })

  t.test('a device that is deleted on one node and made again on the other goes on with its versions', async t => {
    const nodes = [node(a, journalA), node(b, journalB)]
    const id = await newDevice(a)
    await nodes[0].change(id, { desired: { secret: 1 } }, operator)
    await nodes[1].change({ ...id, name: 'n' }, { desired: { secret: 1 } }, operator)
    await nodes[1].deviceDeleted(id.tenant, id.device, operator)
    t.match(await nodes[0].get(id), { version: 3, desired: {} })
    await nodes[0].deviceCreated(id.tenant, id.device, { site: 'x' }, operator)
    t.match(await nodes[1].get(id), { version: 4, desired: {}, tags: { site: 'x' }, names: [] })
    t.same((await nodes[1].changes(id, null, 10)).map(change => [change.version, change.kind]), [[4, 'created'], [3, 'deleted']])
    t.match(await rebuildTwins({ store: b, tenant: id.tenant, write: false, writer: 'x', nowStamp }), { twins: 2, differing: 0, unprovable: 0 })
  })
})
