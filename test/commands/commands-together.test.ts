/**
 * What shares a commit: "queued" with "sent" where the device is there, "delivered" with the answer, index rows of many devices. None of
 * it may change what a command is known to have gone through (INVARIANTS 6).
 */
import t from 'tap'
import type { Test } from 'tap'
import { TwinfoldError } from '../../src/core/errors.js'
import { isFinished, stateOf, type Command } from '../../src/commands/command.js'
import { inOrder } from '../../src/commands/hand-over.js'
import { windowMax } from '../../src/commands/link-delivery.js'
import type { EntityCommit } from '../../src/store/entity-store.js'
import type { Store } from '../../src/store/store.js'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import { commandWorld, embeddedStore, operator, requestOf, tenant, type CommandWorld } from './command-world.js'

/** Told of every call before it is made; may wait, and say that its outcome is lost. */
type Watch = (commits: readonly EntityCommit[]) => Promise<'made' | 'made, not told' | 'not made'>

function watched (store: Store, watch: Watch): Store {
  const commitEntities: Store['commitEntities'] = async (commits, sync) => {
    const outcome = await watch(commits)
    if (outcome === 'not made') throw new TwinfoldError('store_unavailable', 'it was not done')
    const done = await store.commitEntities(commits, sync)
    if (outcome === 'made, not told') throw new TwinfoldError('store_unavailable', 'it was done')
    return done
  }
  return new Proxy(store, { get: (target, name) => name === 'commitEntities' ? commitEntities : Reflect.get(target, name) as unknown })
}

const isBook = ({ key }: EntityCommit): boolean => key.tenant === tenant

interface Counted { readonly w: CommandWorld, readonly books: EntityCommit[], readonly index: EntityCommit[] }

async function counted (t: Test): Promise<Counted> {
  const books: EntityCommit[] = []
  const index: EntityCommit[] = []
  const w = await commandWorld(t, watched(await embeddedStore(t), async commits => {
    for (const commit of commits) (isBook(commit) ? books : index).push(commit)
    return 'made'
  }))
  return { w, books, index }
}

/** A connection that has looked at what is pending. */
async function connected (w: CommandWorld, device: string, more: Parameters<CommandWorld['connect']>[1] = {}) {
  const link = w.connect(device, more)
  await w.service.list(tenant, device, { state: null, name: null, before: null, limit: 1 })
  await new Promise(resolve => { setImmediate(resolve) })
  return link
}

const statesOf = async (w: CommandWorld, device: string, id: string): Promise<string[]> => (await w.events(device))
  .map(({ event }) => JSON.parse(event.data) as { commandId: string, state: string }).filter(({ commandId }) => commandId === id).map(({ state }) => state)

void t.test('a command of a connected device that answers costs two commits of its book, and keeps all its states', async t => {
  const { w, books, index } = await counted(t)
  const link = await connected(w, 'd')
  for (let i = 1; i <= 5; i++) {
    const asked = await w.ask('d')
    t.equal(stateOf(asked), 'sent', 'it says so at once')
    t.same(link.handed.map(({ id }) => id).at(-1), asked.id, 'it was handed over before the request is answered')
    t.ok(asked.attempts[0].at <= link.handed[i - 1].atUs)
    await w.answer('d', asked, { status: 'ok' })
    const done = await w.service.get(tenant, 'd', asked.id) as Command
    t.not(done.attempts[0].deliveredAt, null, 'delivered is known, though the answer came before it was written down')
    t.same(await statesOf(w, 'd', asked.id), ['queued', 'sent', 'delivered', 'succeeded'])
    t.equal(books.length, 2 * i)
  }
  t.same(books.map(({ outbox }) => outbox.length), Array.from({ length: 10 }, () => 2), 'events of one commit are told together')
  t.ok(index.length <= 2, `${index.length} commits of the index`)
})

void t.test('delivered keeps the time of the acknowledgement, is written down soon, and when the service closes', async t => {
  const { w, books } = await counted(t)
  const link = await connected(w, 'd', { answer: 'hold' })
  const [first, second] = [await w.ask('d'), await w.ask('d')]
  const before = w.clock.nowUs()
  link.ack(1)
  await new Promise(resolve => { setImmediate(resolve) })
  const after = w.clock.nowUs()
  const { attempts } = await w.until('d', first.id, 'delivered')
  t.ok((attempts[0].deliveredAt ?? 0) >= before && (attempts[0].deliveredAt ?? 0) <= after, 'its own time')
  t.equal(books.length, 3)
  link.ack(1)
  await new Promise(resolve => { setImmediate(resolve) })
  await w.service.close()
  t.equal(await w.state('d', second.id), 'delivered', 'nothing that waited was lost')
})

void t.test('what was acknowledged a moment before the connection broke is not sent again on the next one', async t => {
  const { w } = await counted(t)
  for (let i = 0; i < 5; i++) {
    const link = await connected(w, 'd', { answer: 'hold' })
    const asked = await w.ask('d', { retries: 3 })
    link.ack()
    await new Promise(resolve => { setImmediate(resolve) })
    w.disconnect(link)
    const next = w.connect('d')
    await w.until('d', asked.id, 'delivered')
    const marker = await w.ask('d')
    await next.until(1)
    t.same(next.handed.map(({ id }) => id), [marker.id])
    w.disconnect(next)
  }
})

void t.test('a connection that ends, or a deadline that passes, while "sent" is written down: nothing is handed over, and it is taken back', async t => {
  let meanwhile = (): void => {}
  const w = await commandWorld(t, watched(await embeddedStore(t), async commits => {
    if (commits.some(commit => isBook(commit) && commit.outbox.some(({ data }) => data.includes('"sent"')))) meanwhile()
    return 'made'
  }))
  const first = await connected(w, 'd')
  meanwhile = () => { w.disconnect(first) }
  const queued = await w.ask('d')
  meanwhile = () => {}
  await w.until('d', queued.id, 'queued')
  const second = await connected(w, 'e')
  meanwhile = () => { w.disconnect(second) }
  const only = await w.ask('e', { delivery: 'ifConnected' })
  meanwhile = () => {}
  await w.until('e', only.id, 'undeliverable')
  const third = await connected(w, 'f')
  meanwhile = () => { w.clock.offsetUs += 2e6 }
  const late = await w.ask('f', { timeoutMs: 1000 })
  meanwhile = () => {}
  await w.until('f', late.id, 'expired')
  t.same([first, second, third].map(({ handed }) => handed.length), [0, 0, 0])
  const fourth = await connected(w, 'g')
  meanwhile = () => { fourth.names = [] }
  const unwanted = await w.ask('g')
  meanwhile = () => {}
  await w.until('g', unwanted.id, 'queued')
  fourth.names = null
  w.service.sessions.ready(fourth)
  await w.until('g', unwanted.id, 'delivered')
  t.same(fourth.handed.map(({ id }) => id), [unwanted.id], 'subscribed to again on the same connection, it is handed over once')
})

void t.test('a "sent" that was taken back by a commit whose answer was lost is not taken back again after it was handed over', async t => {
  let outcome: Awaited<ReturnType<Watch>> = 'made'
  let meanwhile = (): void => {}
  const w = await commandWorld(t, watched(await embeddedStore(t), async commits => {
    const states = commits.filter(isBook).flatMap(({ outbox }) => outbox.map(({ data }) => (JSON.parse(data) as { state: string }).state))
    if (states.includes('sent')) meanwhile()
    return states.length === 1 && states[0] === 'queued' ? outcome : 'made'
  }))
  const link = await connected(w, 'd', { answer: 'hold' })
  meanwhile = () => { link.names = [] }
  outcome = 'made, not told'
  const asked = await w.ask('d')
  meanwhile = () => {}
  await w.until('d', asked.id, 'queued')
  outcome = 'made'
  link.names = null
  w.service.sessions.ready(link)
  await link.until(1)
  const failures = w.service.stats.delivery.failures
  t.equal(failures, 1)
  // Longer than the pause before the second try.
  await new Promise(resolve => { setTimeout(resolve, 120) })
  t.match(await w.service.get(tenant, 'd', asked.id), { withheld: 1, attempts: [{ connection: link.connection }] })
  t.equal(link.handed.length, 1)
})

void t.test('where it is not known whether it was committed, it is looked up: what was is handed over once, what was not never is', async t => {
  let outcome: Awaited<ReturnType<Watch>> = 'made'
  const w = await commandWorld(t, watched(await embeddedStore(t), async commits => commits.some(isBook) ? outcome : 'made'))
  const link = await connected(w, 'd', { answer: 'hold' })
  for (const lost of ['made, not told', 'not made'] as const) {
    outcome = lost
    const asked = w.service.create(tenant, 'd', requestOf(w.clock, { name: lost.replaceAll(/\W/g, '-') }), operator)
    await t.rejects(asked, { code: 'store_unavailable' })
    outcome = 'made'
    await w.ask('d', { name: 'marker' })
  }
  await link.until(3)
  await w.service.list(tenant, 'd', { state: null, name: null, before: null, limit: 10 })
  t.same(link.handed.map(({ topic }) => topic.split('/')[3]).sort(), ['made--not-told', 'marker', 'marker'])
})

void t.test('rows of the index that many devices need at a time share commits, and serve the next commands too', async t => {
  const { w, index } = await counted(t)
  await Promise.all(Array.from({ length: 200 }, async (_, i) => await w.ask(`d${i}`, { timeoutMs: 10_000 + i })))
  t.ok(index.length <= 20, `${index.length} commits for 200 devices`)
  const before = index.length
  w.clock.offsetUs += 50e6
  await Promise.all(Array.from({ length: 200 }, async (_, i) => await w.ask(`d${i}`, { timeoutMs: 10_000 + i })))
  t.equal(index.flatMap(({ items = [] }) => items).filter(({ body }) => body !== null).length, 200, 'one row for a device')
  t.ok(index.length - before <= 20)
})

/** What the log of one device's commands says, in order of number: at each "sent" nothing that was to go first was still waiting. */
function orderBroken (log: readonly { id: string, state: string, at: number }[], commands: ReadonlyMap<string, Command>): string | null {
  const waiting = new Map<string, Command>()
  for (const { id, state, at } of log) {
    const command = commands.get(id) as Command
    if (state === 'queued') waiting.set(id, command)
    else waiting.delete(id)
    if (state !== 'sent') continue
    for (const other of waiting.values()) if (inOrder(other, command) < 0 && at < other.expiresAt) return `${id} before ${other.id}`
  }
  return null
}

void t.test('joint steps at random: written before handed over, in order, ten under way at most, once on a connection', { timeout: 60_000 }, async t => {
  const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31)
  t.comment(`seed ${seed}`)
  const random = seededRandom(seed)
  const store = await embeddedStore(t)
  const durable = new Map<string, Command>()
  let share = 0.08
  const w = await commandWorld(t, watched(store, async () => {
    if (random() < 0.4) await new Promise(resolve => { setTimeout(resolve, random() * 8) })
    if (random() >= share) return 'made'
    return random() < 0.5 ? 'made, not told' : 'not made'
  }), { pendingMax: 1000 })
  const wrong: string[] = []
  const underWay = new Map<string, number>()
  for (let round = 0; round < 12; round++) {
    const device = `r${round}`
    const link = w.connect(device, { answer: 'hold' })
    const given = new Set<string>()
    link.onSend = ({ id, atUs }) => {
      if (given.has(id)) wrong.push(`${id} twice on a connection`)
      given.add(id)
      underWay.set(device, (underWay.get(device) ?? 0) + 1)
      if ((underWay.get(device) ?? 0) > windowMax) wrong.push(`${underWay.get(device) ?? 0} under way`)
      // Asked for in the same turn: what is found was there.
      void w.service.get(tenant, device, id).then(command => {
        if (command?.attempts.some(({ connection, at }) => connection === link.connection && at <= atUs) !== true) wrong.push(`${id} is not written down as sent`)
        else if (atUs >= command.expiresAt) wrong.push(`${id} after its deadline`)
      })
    }
    const asking = Array.from({ length: 30 }, async () => {
      await new Promise(resolve => { setTimeout(resolve, random() * 60) })
      await w.service.create(tenant, device, requestOf(w.clock, { priority: Math.floor(random() * 10), timeoutMs: random() < 0.1 ? 5 + random() * 20 : 60_000 }), operator).catch(() => {})
    })
    const acking = setInterval(() => {
      const count = Math.floor(random() * 4)
      underWay.set(device, Math.max(0, (underWay.get(device) ?? 0) - count))
      link.ack(count)
    }, 4)
    await Promise.all(asking)
    share = 0
    for (const begun = Date.now(); Date.now() - begun < 5000; await new Promise(resolve => { setTimeout(resolve, 5) })) {
      const { commands } = await w.service.list(tenant, device, { state: null, name: null, before: null, limit: 100 })
      if (commands.every(command => isFinished(command) || stateOf(command) === 'delivered')) break
    }
    clearInterval(acking)
    share = 0.08
    const { commands } = await w.service.list(tenant, device, { state: null, name: null, before: null, limit: 100 })
    for (const command of commands) {
      durable.set(command.id, command)
      const handed = given.has(command.id)
      if (handed !== command.attempts.length > 0) wrong.push(`${command.id} is ${stateOf(command)}, handed over: ${String(handed)}`)
      if (!isFinished(command) && stateOf(command) !== 'delivered') wrong.push(`${command.id} stays ${stateOf(command)}`)
    }
    const log = (await w.events(device)).map(({ event }) => {
      const { commandId, state } = JSON.parse(event.data) as { commandId: string, state: string }
      return { id: commandId, state, at: event.stamp }
    })
    const broken = orderBroken(log, durable)
    if (broken !== null) wrong.push(broken)
    w.disconnect(link)
  }
  t.same(wrong, [])
  t.ok(durable.size > 100, `${durable.size} commands`)
  t.comment(JSON.stringify(w.service.stats))
})
