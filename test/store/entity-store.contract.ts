/** What every implementation of the port of entities keeps (src/store/entity-store.ts). */
import type { Test } from 'tap'
import type { EntityCommit, EntityEvent, EntityKey, EntityStore } from '../../src/store/entity-store.js'
import type { EventLog } from '../../src/store/event-log.js'
import { gather, newSeed, newTenantId, randomFrom } from './store-fixtures.js'

export type OpenEntityStore = () => Promise<EntityStore & EventLog>

export const journal = '00000000000000aa'
const stampBase = 1.7e15

export function keyOf (tenant: string, device: string, more: Partial<EntityKey> = {}): EntityKey {
  return { tenant, device, kind: 'twin', name: '', ...more }
}

export function eventOf (version: number, body = `{"v":${version}}`): EntityEvent {
  return { version, stamp: stampBase + version * 1000, body }
}

/** A commit of the versions behind `expected`, an event each. */
export function commitOf (key: EntityKey, expected: number, more: Partial<EntityCommit> = {}): EntityCommit {
  const version = more.version ?? expected + 1
  const events = Array.from({ length: version - expected }, (_, i) => eventOf(expected + 1 + i))
  return { key, writer: journal, expected, version, state: `{"at":${version}}`, events, outbox: [], ...more }
}

/** Commits up to the version, `step` versions at a time. */
export async function fill (store: EntityStore, key: EntityKey, version: number, step: number): Promise<void> {
  for (let at = 0; at < version; at += step) {
    const [done] = await store.commitEntities([commitOf(key, at, { version: Math.min(version, at + step) })], false)
    if (!done) throw new Error(`refused at ${at}`)
  }
}

const versionsOf = (events: readonly EntityEvent[]): number[] => events.map(({ version }) => version)
const numbers = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)

export function entityStoreContract (t: Test, open: OpenEntityStore): void {
  statesContract(t, open)
  itemsContract(t, open)
  historyContract(t, open)
}

function statesContract (t: Test, open: OpenEntityStore): void {
  void t.test('entities: what is committed is there, with its events and items; what never was has version 0', async t => {
    const store = await open()
    const key = keyOf(newTenantId(), 'd')
    t.strictSame(await store.getEntity(key), { version: 0, state: null, writer: '', writerFrom: 0 })
    t.strictSame(await store.readEntityEvents(key, 0, 1e9, 10), [])
    t.strictSame(await store.readEntityItems(key, '', '', 10), [])
    t.equal(await store.getEntityVersion(key), 0)
    t.equal(await store.findEntitySnapshot(key, { version: 5 }), null)
    t.strictSame(await store.commitEntities([commitOf(key, 0, { state: '{"ü":"\\n\u{1F600}"}', items: [{ id: 'i', body: 'ö' }] })], true), [true])
    t.strictSame(await store.getEntity(key), { version: 1, state: '{"ü":"\\n\u{1F600}"}', writer: journal, writerFrom: 1 })
    t.strictSame(await store.readEntityEvents(key, 1, 1, 10), [eventOf(1)])
    t.strictSame(await store.getEntityItem(key, 'i'), { id: 'i', body: 'ö' })
    t.strictSame(await store.commitEntities([commitOf(key, 1, { version: 4, writer: '00000000000000bb' })], true), [true])
    t.match(await store.getEntity(key), { version: 4, writer: '00000000000000bb', writerFrom: 2 })
    t.equal(await store.getEntityVersion(key), 4)
    t.strictSame(versionsOf(await store.readEntityEvents(key, 0, 1e9, 10)), [1, 2, 3, 4])
    t.strictSame(await store.commitEntities([], true), [])
  })

  void t.test('entities: of a commit on another version nothing is written', async t => {
    const store = await open()
    const tenant = newTenantId()
    const key = keyOf(tenant, 'd')
    t.strictSame(await store.commitEntities([commitOf(key, 1)], true), [false])
    await fill(store, key, 3, 1)
    for (const expected of [0, 1, 2, 4, 100]) {
      const refused = commitOf(key, expected, { version: expected + 2, state: '"wrong"', items: [{ id: 'x', body: 'wrong' }] })
      t.strictSame(await store.commitEntities([refused], true), [false], `expected ${expected}`)
    }
    t.match(await store.getEntity(key), { version: 3, state: '{"at":3}' })
    t.strictSame(versionsOf(await store.readEntityEvents(key, 0, 1e9, 10)), [1, 2, 3])
    t.equal(await store.getEntityItem(key, 'x'), null)
    t.strictSame((await gather(store.scanEntities('twin', tenant))).length, 1)
  })

  void t.test('entities: each is its own by tenant, device, kind and name, and one call may change many', async t => {
    const store = await open()
    const [one, two] = [newTenantId(), newTenantId()]
    const keys = [keyOf(one, 'd'), keyOf(one, 'd1'), keyOf(two, 'd'), keyOf(one, 'd', { kind: 'commands' }), keyOf(one, 'd', { name: 'n' }), keyOf(one, 'd', { name: 'n1' }), keyOf(`${one}d`, 'd')]
    const commits = keys.map((key, i) => commitOf(key, 0, { state: String(i), items: [{ id: 'i', body: `item ${i}` }] }))
    t.strictSame(await store.commitEntities(commits, true), keys.map(() => true))
    t.strictSame(await store.commitEntities(keys.map((key, i) => commitOf(key, i % 2, { state: `again ${i}` })), true), keys.map((_, i) => i % 2 === 1))
    for (const [i, key] of keys.entries()) {
      t.match(await store.getEntity(key), { version: i % 2 + 1, state: i % 2 === 1 ? `again ${i}` : String(i) })
      t.strictSame(await store.readEntityItems(key, '', '', 10), [{ id: 'i', body: `item ${i}` }])
      t.equal((await store.readEntityEvents(key, 0, 10, 10)).length, i % 2 + 1)
    }
  })

  void t.test('entities: of many writers at once one has each version, and no change is lost or made twice', async t => {
    const store = await open()
    const tenant = newTenantId()
    const keys = [keyOf(tenant, 'd'), keyOf(tenant, 'e')]
    const each = 12
    await Promise.all(Array.from({ length: 8 }, async (_, writer) => {
      for (let done = 0; done < each;) {
        const key = keys[(writer + done) % 2]
        const { version, state } = await store.getEntity(key)
        const made = [...JSON.parse(state ?? '[]') as string[], `${writer}:${done}`]
        const [committed] = await store.commitEntities([{ ...commitOf(key, version), state: JSON.stringify(made), events: [eventOf(version + 1, `${writer}:${done}`)], items: [{ id: `${writer}:${done}`, body: String(version + 1) }] }], true)
        if (committed) done++
      }
    }))
    const all: string[] = []
    for (const key of keys) {
      const { version, state } = await store.getEntity(key)
      const events = await store.readEntityEvents(key, 0, 1e9, 1000)
      t.strictSame(versionsOf(events), numbers(1, version), 'no gaps')
      t.strictSame(events.map(({ body }) => body), JSON.parse(state ?? ''), 'the state saw them in the order of the history')
      t.equal((await store.readEntityItems(key, '', '', 1000)).length, version)
      all.push(...events.map(({ body }) => body))
    }
    t.equal(new Set(all).size, 8 * each)
    t.equal(all.length, 8 * each)
  })

  void t.test('entities: one that was deleted keeps its version, and goes on from it', async t => {
    const store = await open()
    const tenant = newTenantId()
    const key = keyOf(tenant, 'd')
    await fill(store, key, 2, 1)
    t.strictSame(await store.commitEntities([commitOf(key, 2, { state: null })], true), [true])
    t.match(await store.getEntity(key), { version: 3, state: null })
    await store.dropEntityHistory(key, 4)
    t.match(await store.getEntity(key), { version: 3, state: null }, 'its history is gone, its version is not')
    t.strictSame(await store.commitEntities([commitOf(key, 0)], true), [false])
    t.strictSame(await gather(store.scanEntities('twin', tenant)), [{ key, entity: { version: 3, state: null, writer: journal, writerFrom: 3 } }])
    t.strictSame(await store.commitEntities([commitOf(key, 3, { state: '{}' })], true), [true])
    t.match(await store.getEntity(key), { version: 4, state: '{}' })
    t.strictSame(versionsOf(await store.readEntityEvents(key, 0, 10, 10)), [4])
  })

  void t.test('entities: large states and events come back as they were', async t => {
    const store = await open()
    const key = keyOf(newTenantId(), 'd')
    const large = (text: string): string => JSON.stringify(text.repeat(Math.ceil(64 * 1024 / text.length)))
    t.strictSame(await store.commitEntities([commitOf(key, 0, { version: 3, state: large('ä€x'), events: [1, 2, 3].map(version => eventOf(version, large(`${version}`))) })], true), [true])
    t.equal((await store.getEntity(key)).state, large('ä€x'))
    t.strictSame((await store.readEntityEvents(key, 1, 3, 10)).map(({ body }) => body), ['1', '2', '3'].map(large))
    await store.putEntitySnapshot(key, { version: 3, stamp: 1, state: large('snap') })
    t.equal((await store.findEntitySnapshot(key, { version: 3 }))?.state, large('snap'))
  })

  void t.test('entities: a scan gives every one of the kind, of the tenant or of all, deleted ones too', async t => {
    const store = await open()
    const [one, two] = [newTenantId(), newTenantId()]
    const keys = [one, two].flatMap(tenant => Array.from({ length: 90 }, (_, i) => keyOf(tenant, `d${i % 60}`, { name: i < 60 ? '' : 'n' })))
    await store.commitEntities(keys.map((key, i) => commitOf(key, 0, { state: i % 7 === 0 ? null : String(i) })), false)
    await store.commitEntities([commitOf(keyOf(one, 'c', { kind: 'commands' }), 0)], false)
    const nameOf = ({ tenant, device, name }: EntityKey): string => `${tenant} ${device} ${name}`
    const ofOne = await gather(store.scanEntities('twin', one))
    t.strictSame(ofOne.map(({ key }) => nameOf(key)).sort(), keys.slice(0, 90).map(nameOf).sort())
    t.equal(ofOne.filter(({ entity }) => entity.state === null).length, 13)
    t.strictSame((await gather(store.scanEntities('commands', one))).map(({ key }) => key), [keyOf(one, 'c', { kind: 'commands' })])
    const ours = (await gather(store.scanEntities('twin', null))).filter(({ key }) => key.tenant === one || key.tenant === two)
    t.strictSame(ours.map(({ key }) => nameOf(key)).sort(), keys.map(nameOf).sort())
    t.strictSame(await gather(store.scanEntities('twin', newTenantId())), [])
    for await (const { key } of store.scanEntities('twin', one)) {
      t.equal(key.tenant, one)
      break
    }
  })
}

function itemsContract (t: Test, open: OpenEntityStore): void {
  void t.test('entities: items by prefix, in order, page by page, as a model has them', async t => {
    const store = await open()
    const seed = newSeed()
    const draw = randomFrom(seed)
    const random = (below: number): number => Math.floor(draw() * below)
    const key = keyOf(newTenantId(), 'd', { kind: 'commands' })
    await store.commitEntities([commitOf({ ...key, device: 'd0' }, 0, { items: [{ id: 'a', body: 'of another' }] })], false)
    const model = new Map<string, string>()
    const idOf = (): string => Array.from({ length: 1 + random(4) }, () => 'ab~ 9:'[random(6)]).join('')
    for (let version = 0; version < 30; version++) {
      const changed = new Map(Array.from({ length: 1 + random(6) }, () => [idOf(), random(3) === 0 ? null : `${version}`] as const))
      const items = [...changed].map(([id, body]) => ({ id, body }))
      t.strictSame(await store.commitEntities([commitOf(key, version, { events: [], items })], false), [true])
      for (const { id, body } of items) {
        if (body === null) model.delete(id)
        else model.set(id, body)
      }
    }
    const sorted = [...model].sort(([a], [b]) => a < b ? -1 : 1).map(([id, body]) => ({ id, body }))
    for (let i = 0; i < 25; i++) {
      const [prefix, after, limit] = [random(2) === 0 ? '' : idOf().slice(0, 2), random(3) === 0 ? '' : idOf(), 1 + random(20)]
      const expected = sorted.filter(({ id }) => id.startsWith(prefix) && id > after).slice(0, limit)
      t.strictSame(await store.readEntityItems(key, prefix, after, limit), expected, `prefix "${prefix}" after "${after}" limit ${limit}, seed ${seed}`)
    }
    t.strictSame(await store.readEntityEvents(key, 0, 1e9, 10), [], 'a kind without history has none')
    const [first] = sorted
    t.strictSame(await store.getEntityItem(key, first.id), first)
    t.equal(await store.getEntityItem(key, `${first.id}x9`), null)
  })
}

function historyContract (t: Test, open: OpenEntityStore): void {
  void t.test('entities: thousands of events are read by any range and limit, and cut where they are dropped', async t => {
    const store = await open()
    const seed = newSeed()
    const draw = randomFrom(seed)
    const random = (below: number): number => Math.floor(draw() * below)
    const key = keyOf(newTenantId(), 'd')
    await fill(store, key, 5000, 50)
    const check = async (kept: number): Promise<void> => {
      for (let i = 0; i < 14; i++) {
        const from = i === 0 ? 0 : random(5200)
        const [to, limit] = [i === 0 ? 1e15 : from + random(1500), i === 0 ? 10_000 : 1 + random(1200)]
        const expected = numbers(1, 5000).filter(version => version >= Math.max(from, kept) && version <= to).slice(0, limit)
        t.strictSame(versionsOf(await store.readEntityEvents(key, from, to, limit)), expected, `from ${from} to ${to} limit ${limit}, seed ${seed}`)
      }
      t.strictSame(await store.readEntityEvents(key, 4321, 4321, 1), [eventOf(4321)])
      t.strictSame(await store.readEntityEvents(key, 10, 9, 5), [])
      t.strictSame(await store.readEntityEvents(key, 1, 9, 0), [])
    }
    await check(0)
    for (const below of [0, 1, 1000, 2345]) {
      await store.dropEntityHistory(key, below)
      await store.dropEntityHistory(key, Math.max(0, below - 500))
    }
    await check(2345)
    await store.dropEntityHistory(key, 5001)
    t.strictSame(await store.readEntityEvents(key, 0, 1e15, 10), [])
    t.match(await store.getEntity(key), { version: 5000 })
  })

  void t.test('entities: the newest snapshot at a version or a time is found, and goes with the history', async t => {
    const store = await open()
    const key = keyOf(newTenantId(), 'd')
    await fill(store, key, 2600, 400)
    const at = [5, 900, 1000, 1001, 2500]
    for (const version of [900, 5, 2500, 1000, 1001]) await store.putEntitySnapshot(key, { version, stamp: stampBase + version * 1000, state: version === 1000 ? null : `{"at":${version}}` })
    await store.putEntitySnapshot({ ...key, device: 'e' }, { version: 2000, stamp: stampBase, state: '"of another"' })
    for (const version of [0, 4, 5, 6, 899, 900, 999, 1000, 1001, 2499, 2500, 1e12]) {
      const expected = at.filter(one => one <= version).pop()
      const found = await store.findEntitySnapshot(key, { version })
      t.strictSame(found, expected === undefined ? null : { version: expected, stamp: stampBase + expected * 1000, state: expected === 1000 ? null : `{"at":${expected}}` }, `at ${version}`)
      t.strictSame(await store.findEntitySnapshot(key, { stamp: stampBase + version * 1000 + 999 }), found, `at the stamp of ${version}`)
    }
    await store.putEntitySnapshot(key, { version: 5, stamp: stampBase + 5000, state: '"again"' })
    t.match(await store.findEntitySnapshot(key, { version: 5 }), { state: '"again"' })
    await store.dropEntityHistory(key, 1001)
    t.equal(await store.findEntitySnapshot(key, { version: 1000 }), null)
    t.match(await store.findEntitySnapshot(key, { version: 1001 }), { version: 1001 })
    t.match(await store.findEntitySnapshot(key, { version: 1e12 }), { version: 2500 })
    t.strictSame(versionsOf(await store.readEntityEvents(key, 0, 1e9, 3)), [1001, 1002, 1003])
  })

  void t.test('entities: any course of commits, snapshots and cuts leaves what a model has', async t => {
    const store = await open()
    const seed = newSeed()
    const draw = randomFrom(seed)
    const random = (below: number): number => Math.floor(draw() * below)
    const key = keyOf(newTenantId(), 'd', { name: 'n' })
    let [version, kept] = [0, 0]
    let state: string | null = null
    const snapshots = new Map<number, string | null>()
    for (let step = 0; step < 60; step++) {
      const kind = random(10)
      if (kind < 6) {
        const expected = random(4) === 0 ? version + 1 - random(3) : version
        const next = expected + 1 + random(300)
        const made: string | null = random(8) === 0 ? null : `"${step}"`
        const [done] = await store.commitEntities([commitOf(key, expected, { version: next, state: made })], false)
        t.equal(done, expected === version, `step ${step}, seed ${seed}`)
        if (done) [version, state] = [next, made]
      } else if (kind < 8 && version >= kept) {
        await store.putEntitySnapshot(key, { version, stamp: stampBase + version, state })
        snapshots.set(version, state)
      } else if (kind === 8) {
        const below = random(version + 2)
        await store.dropEntityHistory(key, below)
        kept = Math.max(kept, below)
        for (const at of snapshots.keys()) if (at < below) snapshots.delete(at)
      } else {
        const expected = numbers(Math.max(1, kept), version)
        t.strictSame(versionsOf(await store.readEntityEvents(key, 0, 1e9, 1e6)), expected, `step ${step}, seed ${seed}`)
        const at = random(version + 1)
        const newest = [...snapshots.keys()].filter(one => one <= at).sort((a, b) => b - a)[0]
        t.equal((await store.findEntitySnapshot(key, { version: at }))?.version, newest, `step ${step}, seed ${seed}`)
      }
    }
    t.match(await store.getEntity(key), { version, state })
  })
}
