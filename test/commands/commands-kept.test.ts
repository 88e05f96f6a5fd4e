/** What is kept and for how long, deadlines found again by the index, and what another node's death leaves untold. */
import t from 'tap'
import type { Command } from '../../src/commands/command.js'
import { BookKeeper } from '../../src/commands/book-keeper.js'
import { DeadlineIndex, deadlineShards, minuteOf, type DeadlineRow } from '../../src/commands/deadline-index.js'
import type { EntityStore } from '../../src/store/entity-store.js'
import type { Store } from '../../src/store/store.js'
import { commandWorld, embeddedStore, operator, requestOf, tenant } from './command-world.js'

const dayUs = 24 * 3600e6

async function rowsOf (store: Store): Promise<DeadlineRow[]> {
  const index = new DeadlineIndex(store, 'reader')
  const rows: DeadlineRow[] = []
  for (let shard = 0; shard < deadlineShards; shard++) rows.push(...await index.read(shard, 0, Number.MAX_SAFE_INTEGER, null, 10_000))
  return rows
}

void t.test('of finished commands the newest 1000 are kept, for 30 days; those with a key for a day at least', async t => {
  const store = await embeddedStore(t)
  const w = await commandWorld(t, store, { pendingMax: 2000 })
  const device = 'old'
  const end = async (count: number, key: string | null): Promise<string[]> => {
    const made = await Promise.all(Array.from({ length: count }, async (_, i) => {
      const outcome = await w.service.create(tenant, device, requestOf(w.clock, { delivery: 'ifConnected', idempotency: key === null ? null : { key: `${key}${i}`, fingerprint: '' } }), operator)
      return outcome.kind === 'created' ? outcome.command.id : outcome.kind
    }))
    return made
  }
  const finished = async (): Promise<number> => {
    let count = 0
    for (let before: string | null = null; ;) {
      const page = await w.service.list(tenant, device, { state: null, name: null, before, limit: 1000 })
      count += page.commands.length
      before = page.next
      if (before === null) return count
    }
  }
  await end(50, 'early')
  await end(1300, null)
  for (const begun = Date.now(); await finished() > 1100 && Date.now() - begun < 10_000;) await new Promise(resolve => { setTimeout(resolve, 10) })
  const kept = await finished()
  t.ok(kept >= 1000 && kept <= 1150, `${kept} are kept`)
  t.match(await w.service.create(tenant, device, requestOf(w.clock, { delivery: 'ifConnected', idempotency: { key: 'early7', fingerprint: '' } }), operator), { kind: 'repeated' }, 'its key still gives the same command')
  w.clock.offsetUs = 1.1 * dayUs
  t.match(await w.service.create(tenant, device, requestOf(w.clock, { delivery: 'ifConnected', idempotency: { key: 'early7', fingerprint: 'other' } }), operator), { kind: 'created' }, 'a day later it is a new one')
  w.clock.offsetUs = 31 * dayUs
  t.equal(await finished(), 1, 'after 30 days only the one of yesterday is shown')
})

void t.test('deadlines of many devices are found again after a restart, each book by one row, and rows do not stay', async t => {
  const store = await embeddedStore(t)
  const before = await commandWorld(t, store)
  const asked: { device: string, command: Command }[] = []
  for (let i = 0; i < 120; i++) {
    const device = `d${i % 40}`
    asked.push({ device, command: await before.ask(device, { timeoutMs: (i % 3 + 1) * 3_600_000 }) })
  }
  const rows = await rowsOf(store)
  t.equal(new Set(rows.map(({ device }) => device)).size, 40)
  t.ok(rows.length <= 40 * 3, `${rows.length} rows for 120 commands`)
  await before.service.close()
  const after = await commandWorld(t, store, { journalId: before.journalId })
  after.clock.offsetUs = 3600e6 + 60e6
  for (const { device, command } of asked) if (command.expiresAt < after.clock.nowUs()) await after.until(device, command.id, 'expired')
  after.clock.offsetUs = 4 * 3600e6
  for (const { device, command } of asked) await after.until(device, command.id, 'expired')
  const past = minuteOf(after.clock.nowUs()) - 2
  for (const begun = Date.now(); (await rowsOf(store)).some(({ minute }) => minute <= past) && Date.now() - begun < 10_000;) await new Promise(resolve => { setTimeout(resolve, 20) })
  t.same((await rowsOf(store)).filter(({ minute }) => minute <= past), [], 'no row of the past is left')
})

void t.test('a commit that its node did not live to tell is told by the next one, and by the node itself after its restart', async t => {
  const store = await embeddedStore(t)
  // As in a cluster: the commit is made, and the node dies before its events are in the log.
  const mute: EntityStore['commitEntities'] = async (commits, sync) => await store.commitEntities(commits.map(commit => ({ ...commit, outbox: [] })), sync)
  const muted = new Proxy(store, { get: (target, name) => name === 'commitEntities' ? mute : Reflect.get(target, name) as unknown })
  const dying = await commandWorld(t, muted, { shared: true, journalId: 'journal-a' })
  const other = await commandWorld(t, store, { shared: true, journalId: 'journal-b' })
  const first = await dying.ask('d1')
  const told = async (device: string): Promise<string[]> => (await other.events(device)).map(({ event }) => `${(JSON.parse(event.data) as { commandId: string, state: string }).commandId} ${(JSON.parse(event.data) as { state: string }).state} ${event.sequence?.number ?? ''}`)
  t.same(await told('d1'), [])
  const second = await other.ask('d1')
  t.same(await told('d1'), [`${first.id} queued 1`, `${second.id} queued 2`], 'in order')
  const third = await dying.ask('d2')
  await dying.service.close()
  t.same(await told('d2'), [])
  const back = await commandWorld(t, store, { shared: true, journalId: 'journal-a' })
  await back.service.repeat({ tenant, device: 'd2', kind: 'commands', name: '' })
  t.same(await told('d2'), [`${third.id} queued 1`])
  await other.service.repeat({ tenant, device: 'd2', kind: 'commands', name: '' })
  t.same(await told('d2'), [`${third.id} queued 1`], 'another node has nothing to repeat')
})

void t.test('two writers of one book lose nothing: every change is made on what the other did', async t => {
  const store = await embeddedStore(t)
  const worlds = [await commandWorld(t, store, { shared: true, pendingMax: 80 }), await commandWorld(t, store, { shared: true, pendingMax: 80 })]
  const outcomes = await Promise.all(Array.from({ length: 120 }, async (_, i) => await worlds[i % 2].service.create(tenant, 'd', requestOf(worlds[0].clock), operator)))
  t.equal(outcomes.filter(({ kind }) => kind === 'created').length, 80, 'the limit holds over both')
  t.equal(outcomes.filter(({ kind }) => kind === 'limit_reached').length, 40)
  const ids = outcomes.flatMap(outcome => outcome.kind === 'created' ? [outcome.command.id] : [])
  const cancelled = await Promise.all(ids.flatMap(id => worlds.map(async w => await w.service.cancel(tenant, 'd', id))))
  t.equal(cancelled.filter(({ kind }) => kind === 'cancelled').length, 80, 'each was cancelled once')
  t.ok(worlds[0].service.stats.books.conflicts + worlds[1].service.stats.books.conflicts > 0, 'they did meet')
  const numbers = (await worlds[0].events('d')).map(({ event }) => event.sequence?.number ?? 0)
  t.same([...new Set(numbers)].sort((a, b) => a - b), Array.from({ length: 160 }, (_, i) => i + 1))
})

void t.test('devices that are remembered cost a bounded amount of memory', async t => {
  const store = await embeddedStore(t)
  const keeper = new BookKeeper({ store, journalId: 'j', clock: { nowUs: () => Date.now() * 1000, monotonicMs: () => 0 }, shared: false, intents: null, index: async () => null, onChanged: () => {}, booksCachedMax: 10 })
  for (let i = 0; i < 100; i++) await keeper.read(tenant, `d${i}`)
  t.equal(keeper.peek(tenant, 'd0'), undefined)
  t.not(keeper.peek(tenant, 'd99'), undefined)
})
