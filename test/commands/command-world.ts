/** Commands on a real store, with connections that the test holds in its hands. */
import type { Clock } from '../../src/core/clock.js'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { stateOf, type Command, type CommandState } from '../../src/commands/command.js'
import { CommandService, type CommandServiceOptions } from '../../src/commands/command-service.js'
import type { CommandRequest } from '../../src/commands/commands.js'
import type { MessageOutcome } from '../../src/inlet/device-message.js'
import { DeviceBells } from '../../src/nodes/device-bells.js'
import { openEmbeddedStore } from '../../src/store/embedded/embedded-store.js'
import type { LoggedEvent } from '../../src/store/event-log.js'
import { laneOf } from '../../src/store/event-log.js'
import type { Store } from '../../src/store/store.js'
import type { DeviceLink } from '../../src/twin/device-link.js'
import { temporaryDirectory } from '../support/server.js'

export const tenant = 'acme'
export const operator = { kind: 'operator', id: 'key-1', via: 'http' } as const

export class OffsetClock implements Clock {
  offsetUs = 0
  nowUs (): number { return systemClock.nowUs() + this.offsetUs }
  monotonicMs (): number { return systemClock.monotonicMs() }
}

export interface Handed { readonly topic: string, readonly id: string, readonly payload: string, readonly qos: 0 | 1, readonly atUs: number }
type SendOutcome = 'acked' | 'written' | 'lost'

let connections = 0

/** A connection whose client does what it is told. */
export class FakeLink implements DeviceLink {
  readonly tenant = tenant
  readonly device: string
  readonly connection = `connection-${String(++connections).padStart(6, '0')}-${process.pid}`
  open = true
  qos: -1 | 0 | 1 = 1
  /** Names of commands that are subscribed to; null: all. */
  names: readonly string[] | null = null
  /** What becomes of what is sent; `hold`: nothing yet. */
  answer: 'acked' | 'hold' = 'acked'
  /** Told of what is handed over, in the same turn. */
  onSend: (handed: Handed) => void = () => {}
  readonly handed: Handed[] = []
  readonly #clock: Clock
  readonly #held: ((outcome: SendOutcome) => void)[] = []
  #wake: (() => void)[] = []

  constructor (device: string, clock: Clock) {
    this.device = device
    this.#clock = clock
  }

  grantedQos (topic: string): -1 | 0 | 1 {
    return this.names === null || this.names.includes(topic.split('/')[3]) ? this.qos : -1
  }

  async send (topic: string, payload: Uint8Array, qos: 0 | 1): Promise<SendOutcome> {
    if (!this.open) return 'lost'
    const handed = { topic, id: topic.split('/')[5], payload: Buffer.from(payload).toString(), qos, atUs: this.#clock.nowUs() }
    this.handed.push(handed)
    this.onSend(handed)
    for (const wake of this.#wake.splice(0)) wake()
    if (qos === 0) return 'written'
    if (this.answer === 'acked') return 'acked'
    return await new Promise(resolve => { this.#held.push(resolve) })
  }

  /** PUBACKs for what is held, oldest first. */
  ack (count = Infinity): void {
    for (const resolve of this.#held.splice(0, count)) resolve('acked')
  }

  async until (count: number): Promise<void> {
    while (this.handed.length < count) await new Promise<void>(resolve => { this.#wake.push(resolve) })
  }

  end (): void {
    this.open = false
    for (const resolve of this.#held.splice(0)) resolve('lost')
  }
}

export interface CommandWorld {
  readonly store: Store
  readonly clock: OffsetClock
  readonly service: CommandService
  readonly bells: DeviceBells
  readonly journalId: string
  connect (device: string, more?: Partial<Pick<FakeLink, 'qos' | 'answer' | 'names'>>): FakeLink
  disconnect (link: FakeLink): void
  ask (device: string, more?: Partial<CommandRequest> & { timeoutMs?: number }): Promise<Command>
  answer (device: string, command: Pick<Command, 'id' | 'name'>, body: unknown, more?: { position?: number, stamp?: number, journalId?: string, replayed?: boolean }): Promise<MessageOutcome>
  state (device: string, id: string): Promise<CommandState | null>
  /** Waits until the command is in the state. */
  until (device: string, id: string, state: CommandState): Promise<Command>
  events (device: string): Promise<LoggedEvent[]>
}

let position = 0

export function requestOf (clock: Clock, { timeoutMs = 60_000, ...more }: Partial<CommandRequest> & { timeoutMs?: number } = {}): CommandRequest {
  return { name: 'reboot', payload: { delay: 1 }, envelope: false, priority: 5, expiresAt: clock.nowUs() + timeoutMs * 1000, delivery: 'queued', retries: 0, reason: '', idempotency: null, ...more }
}

interface Teardown { teardown(undo: () => unknown): unknown }

/** @param store opened by the caller; closed by it too */
export async function commandWorld (t: Teardown, store: Store, more: Partial<CommandServiceOptions> = {}): Promise<CommandWorld> {
  const clock = new OffsetClock()
  const begunUs = clock.nowUs() - 60e6
  const bells = new DeviceBells({ bus: null })
  const journalId = more.journalId ?? `journal-${Math.random().toString(36).slice(2)}`
  const service = new CommandService({ store, journalId, clock, log: silentLog, bell: bells, shared: false, intents: null, answersApplied: async () => {}, lookEveryMs: 100, ...more })
  await service.open()
  t.teardown(async () => { await service.close() })
  const world: CommandWorld = {
    store,
    clock,
    service,
    bells,
    journalId,
    connect: (device, options = {}) => {
      const link = Object.assign(new FakeLink(device, clock), options)
      service.sessions.ready(link)
      return link
    },
    disconnect: link => {
      link.end()
      service.sessions.ended(link)
    },
    ask: async (device, options = {}) => {
      const outcome = await service.create(tenant, device, requestOf(clock, options), operator)
      if (outcome.kind !== 'created' && outcome.kind !== 'repeated') throw new Error(outcome.kind)
      return outcome.command
    },
    answer: async (device, { id, name }, body, { position: at = ++position, stamp = clock.nowUs(), journalId: of = journalId, replayed = false } = {}) => {
      const payload = Buffer.from(typeof body === 'string' ? body : JSON.stringify(body))
      const [outcome] = await service.answers.apply([{ journalId: of, position: at, stamp, tenant, device, path: `commands/${name}/response/${id}`, payload, replayed }])
      return outcome
    },
    state: async (device, id) => {
      const command = await service.get(tenant, device, id)
      return command === null ? null : stateOf(command)
    },
    until: async (device, id, state) => {
      for (const begun = Date.now(); ;) {
        const command = await service.get(tenant, device, id)
        if (command !== null && stateOf(command) === state) return command
        if (Date.now() - begun > 20_000) throw new Error(`the command is ${command === null ? 'gone' : stateOf(command)}, not ${state}`)
        await new Promise(resolve => { setTimeout(resolve, 3) })
      }
    },
    events: async device => {
      if (store.settleMs > 0) await new Promise(resolve => { setTimeout(resolve, store.settleMs + 300) })
      const lane = laneOf(tenant, device)
      const found: LoggedEvent[] = []
      for (let position = store.positionAt(lane, begunUs); ;) {
        const page = await store.readEvents(lane, position, 10_000)
        found.push(...page.events)
        if (page.events.length === 0) break
        position = page.position
      }
      return found.filter(({ event }) => event.device === device && event.type === 'command.changed')
    }
  }
  return world
}

export async function embeddedStore (t: Teardown): Promise<Store> {
  const { directory, remove } = await temporaryDirectory('commands')
  const store = await openEmbeddedStore({ directory, clock: systemClock, log: silentLog, writer: true })
  await store.open()
  t.teardown(async () => {
    await store.close()
    await remove()
  })
  return store
}
