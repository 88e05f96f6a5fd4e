/**
 * Commands while the store fails: commits that never were, commits that were made and not answered, connections that come and go, and
 * deadlines in between. Whatever happens, what is shown at the end agrees with what the connections were given (INVARIANTS 6).
 */
import t from 'tap'
import { TwinfoldError } from '../../src/core/errors.js'
import { stateOf, type Command } from '../../src/commands/command.js'
import type { EntityCommit, EntityStore } from '../../src/store/entity-store.js'
import type { Store } from '../../src/store/store.js'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import { commandWorld, embeddedStore, tenant, type CommandWorld, type FakeLink } from './command-world.js'

const commands = 150
const devices = 6

/** A store that fails as often as it is told. */
function failing (store: Store, random: () => number, share: () => number): Store {
  const commitEntities: EntityStore['commitEntities'] = async (commits: readonly EntityCommit[], sync) => {
    const fails = random() < share()
    if (fails && random() < 0.5) throw new TwinfoldError('store_unavailable', 'it was not done')
    const done = await store.commitEntities(commits, sync)
    if (random() < 0.2) await new Promise(resolve => { setTimeout(resolve, random() * 30) })
    if (fails) throw new TwinfoldError('store_unavailable', 'it was done')
    return done
  }
  return new Proxy(store, { get: (target, name) => name === 'commitEntities' ? commitEntities : Reflect.get(target, name) as unknown })
}

async function trying<T> (action: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await action()
    } catch (error) {
      if (!(error instanceof TwinfoldError && error.code === 'store_unavailable')) throw error
      await new Promise(resolve => { setTimeout(resolve, 5) })
    }
  }
}

interface Answered { readonly stamp: number, readonly outcome: 'succeeded' | 'failed' }

/** A device that connects and drops, answers some of what it gets, and remembers all of it. */
class Gadget {
  readonly links: FakeLink[] = []
  readonly answers = new Map<string, Answered>()
  readonly #world: CommandWorld
  readonly #device: string
  readonly #random: () => number
  #position: number

  constructor (world: CommandWorld, device: string, random: () => number, position: number) {
    this.#world = world
    this.#device = device
    this.#random = random
    this.#position = position
  }

  async run (untilMs: number): Promise<void> {
    while (Date.now() < untilMs) {
      const link = this.#world.connect(this.#device, { answer: this.#random() < 0.7 ? 'acked' : 'hold', qos: this.#random() < 0.8 ? 1 : 0 })
      this.links.push(link)
      const endMs = Date.now() + this.#random() * 150
      for (let seen = 0; Date.now() < endMs; await new Promise(resolve => { setTimeout(resolve, 2) })) {
        while (seen < link.handed.length) await this.#carryOut(link.handed[seen++].id)
      }
      this.#world.disconnect(link)
      await new Promise(resolve => { setTimeout(resolve, this.#random() * 100) })
    }
  }

  async #carryOut (id: string): Promise<void> {
    if (this.#random() < 0.4) return
    const outcome = this.#random() < 0.7 ? 'succeeded' : 'failed'
    const position = this.#position++
    const stamp = this.#world.clock.nowUs()
    // From here on it is on stable storage: it is applied until it is.
    if (!this.answers.has(id)) this.answers.set(id, { stamp, outcome })
    await trying(async () => await this.#world.answer(this.#device, { id, name: 'reboot' }, { status: outcome }, { position, stamp }))
  }
}

void t.test('what is shown agrees with what was handed over and answered, whatever the store does', { timeout: 60_000 }, async t => {
  const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31)
  t.comment(`seed ${seed}`)
  const random = seededRandom(seed)
  const inner = await embeddedStore(t)
  let share = 0.15
  const world = await commandWorld(t, failing(inner, random, () => share), { pendingMax: 1000 })
  const gadgets = new Map(Array.from({ length: devices }, (_, i) => [`g${i}`, new Gadget(world, `g${i}`, random, (i + 1) * 1e6)]))
  const untilMs = Date.now() + 3000
  const running = [...gadgets.values()].map(async gadget => { await gadget.run(untilMs) })
  const made: { device: string, id: string }[] = []
  for (let i = 0; i < commands; i++) {
    const device = `g${Math.floor(random() * devices)}`
    const more = { retries: Math.floor(random() * 3), timeoutMs: 20 + random() * 800, priority: Math.floor(random() * 10), delivery: random() < 0.2 ? 'ifConnected' as const : 'queued' as const, idempotency: { key: `k${i}`, fingerprint: '' } }
    made.push({ device, id: (await trying(async () => await world.ask(device, more))).id })
    await new Promise(resolve => { setTimeout(resolve, random() * 18) })
  }
  await Promise.all(running)
  share = 0
  const counts: Record<string, number> = {}
  for (const { device, id } of made) {
    const gadget = gadgets.get(device) as Gadget
    const handed = gadget.links.flatMap(link => link.handed.filter(entry => entry.id === id))
    let command = await finished(world, device, id)
    // What was written down as sent and never was is taken back when the store answers again.
    if (stateOf(command) === 'unanswered' && handed.length === 0) command = await world.until(device, id, 'expired')
    const state = stateOf(command)
    counts[state] = (counts[state] ?? 0) + 1
    const answered = gadget.answers.get(id)
    const story = JSON.stringify({ command, handed, answered })
    if (handed.some(({ atUs }) => atUs >= command.expiresAt)) t.fail(`handed over after its deadline: ${story}`)
    if (handed.length > command.retries + 1) t.fail(`handed over too often: ${story}`)
    if (handed.length > command.attempts.length) t.fail(`handed over without a record: ${story}`)
    if (answered !== undefined && answered.stamp <= command.expiresAt && state !== answered.outcome) t.fail(`answered in time: ${story}`)
    if ((state === 'succeeded' || state === 'failed') && answered === undefined) t.fail(`never answered: ${story}`)
    if (['expired', 'cancelled', 'undeliverable'].includes(state) && handed.length > 0) t.fail(`it was handed over: ${story}`)
  }
  t.comment(JSON.stringify({ counts, stats: world.service.stats }))
  t.ok((counts.succeeded ?? 0) > 0 && (counts.expired ?? 0) + (counts.undeliverable ?? 0) > 0 && (counts.unanswered ?? 0) > 0, 'all ends were met')
  t.ok(world.service.stats.delivery.failures > 0, 'commits did fail')
})

async function finished (world: CommandWorld, device: string, id: string): Promise<Command> {
  const command = await world.service.wait(tenant, device, id, 10_000)
  if (command === null || !world.service.view(command).finished) throw new Error(`the command has not ended: ${JSON.stringify(command)}`)
  return command
}
