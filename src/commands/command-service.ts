/**
 * Commands of all devices: the one object that the wiring makes. It ties the books (book-keeper.ts), delivery to connections, answers
 * from the journal, deadlines, and what is asked over HTTP together (INVARIANTS 6).
 */
import { randomInt, randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { LRUCache } from 'lru-cache'
import type { Clock } from '../core/clock.js'
import type { DeviceBell } from '../core/device-bell.js'
import type { Log } from '../core/log.js'
import type { IntentHandler, IntentLog, MessageHandler } from '../inlet/device-message.js'
import type { ClaimStore } from '../store/claim-store.js'
import type { EntityKey, EntityStore } from '../store/entity-store.js'
import type { EventLog } from '../store/event-log.js'
import type { DeviceSessions } from '../twin/device-link.js'
import type { Actor } from '../twin/twin-model.js'
import { BookKeeper } from './book-keeper.js'
import type { Book } from './book.js'
import { deliveryOf, finishedAt, isFinished, stateOf, type Command } from './command.js'
import { CommandAnswers } from './command-answers.js'
import { CommandDelivery, type Marked } from './command-delivery.js'
import { newCommandId } from './command-id.js'
import { finishedHardMax, finishedMax, keysKeptUs, listCommands, trimFinished, trimSlack } from './command-list.js'
import type { CancelOutcome, CommandPage, CommandQuery, CommandRequest, Commands, CommandView, CreateOutcome } from './commands.js'
import { CommandWaiters } from './command-waiters.js'
import { DeadlineIndex } from './deadline-index.js'
import { Deadlines } from './deadlines.js'
import { markSent } from './hand-over.js'

export interface CommandServiceOptions {
  readonly store: EntityStore & Pick<EventLog, 'appendEvents'> & ClaimStore
  readonly journalId: string
  readonly clock: Clock
  readonly log: Log
  readonly bell: DeviceBell
  /** Other nodes write the same store. */
  readonly shared: boolean
  /** null: state and events are one write (embedded). */
  readonly intents: IntentLog | null
  /** Resolves when every device message that this node accepted before the call is applied (answers-applied.ts). */
  readonly answersApplied: () => Promise<void>
  /** Is the device connected to any node; absent: to this one. */
  readonly connected?: (tenant: string, device: string) => Promise<boolean>
  /** Pending commands of one device; one more is refused. Default 100. */
  readonly pendingMax?: number
  /** How often it is looked whether deadlines must be read from the index, ms. Default 1,000. */
  readonly lookEveryMs?: number
  /** Requests that wait for the end of a command; one more gets its answer at once. Default 5,000. */
  readonly waitersMax?: number
}

export interface CommandStats { created: number, repeated: number, refused: number, cancelled: number, waiting: number }

/** How often a waiting request looks again where another node may end the command. */
const lookAgainMs = 2000
/** What waits to be written when the service closes is given so long. */
const closeMsMax = 5000
/** Random numbers of ids, from a source that nobody guesses. */
const secureRandom = (): number => randomInt(2 ** 32) / 2 ** 32

export class CommandService implements Commands, IntentHandler {
  readonly #options: CommandServiceOptions
  readonly #keeper: BookKeeper
  readonly #delivery: CommandDelivery
  readonly #answers: CommandAnswers
  readonly #deadlines: Deadlines
  readonly #waiters: CommandWaiters
  readonly #stats: CommandStats = { created: 0, repeated: 0, refused: 0, cancelled: 0, waiting: 0 }
  /** Devices whose old commands are being taken away, or had none to take away a moment ago. */
  readonly #trimmed = new LRUCache<string, true>({ max: 1000, ttl: 60_000 })
  readonly #stopListening: (() => void)[] = []
  /** This process rings: its listeners are called inside. */
  #ringing = false

  constructor (options: CommandServiceOptions) {
    const { store, journalId, clock, log, shared, intents } = options
    this.#options = options
    const index = new DeadlineIndex(store, journalId)
    this.#keeper = new BookKeeper({
      store,
      journalId,
      clock,
      shared,
      intents,
      index: async (tenant, device, draft) => await this.#deadlines.require(tenant, device, draft),
      onChanged: (tenant, device, commands, book) => { this.#changed(tenant, device, commands, book) }
    })
    this.#delivery = new CommandDelivery({ keeper: this.#keeper, clock, log })
    this.#answers = new CommandAnswers(this.#keeper, shared)
    this.#deadlines = new Deadlines({ keeper: this.#keeper, index, claims: store, owner: journalId, clock, log, answersApplied: options.answersApplied, tickMs: options.lookEveryMs ?? 1000 })
    this.#waiters = new CommandWaiters(options.waitersMax ?? 5000)
  }

  /** For the MQTT stage. */
  get sessions (): DeviceSessions { return this.#delivery }
  /** For the applier. */
  get answers (): MessageHandler { return this.#answers }

  /** Plain numbers for the metrics. */
  get stats () {
    return { ...this.#stats, waiting: this.#waiters.size, books: this.#keeper.stats, delivery: this.#delivery.stats, answers: this.#answers.stats, deadlines: this.#deadlines.stats }
  }

  async open (): Promise<void> {
    const { bell } = this.#options
    this.#stopListening.push(bell.onRing((tenant, device, reason) => {
      if (reason !== 'commands') return
      if (!this.#ringing) {
        this.#keeper.forget(tenant, device)
        this.#waiters.rung(tenant, device)
      }
      this.#delivery.wake(tenant, device)
    }))
    this.#stopListening.push(bell.onRelinked(() => { this.#delivery.wakeAll((tenant, device) => { this.#keeper.forget(tenant, device) }) }))
    this.#deadlines.open()
  }

  async close (): Promise<void> {
    for (const stop of this.#stopListening.splice(0)) stop()
    this.#delivery.stop()
    this.#waiters.close()
    await Promise.race([this.#keeper.close(), pause(closeMsMax, undefined, { ref: false })])
    await this.#deadlines.close()
  }

  async create (tenant: string, device: string, request: CommandRequest, actor: Actor): Promise<CreateOutcome> {
    const { clock, connected, pendingMax = 100 } = this.#options
    const isConnected = request.delivery === 'queued' || this.#delivery.has(tenant, device) || await connected?.(tenant, device) === true
    const createdAt = clock.nowUs()
    const { name, payload, envelope, priority, expiresAt, delivery, retries, reason, idempotency } = request
    const key = idempotency?.key ?? ''
    const command: Command = {
      id: newCommandId(createdAt, secureRandom), name, ...payload === undefined ? {} : { payload }, envelope, priority, createdAt, expiresAt, delivery, retries, requestedBy: actor, reason, key,
      attempts: [], withheld: 0, end: null, answer: null, lateAnswers: [], lateAnswersBeyond: 0
    }
    let marked: Marked = []
    const outcome = await this.#keeper.apply<CreateOutcome>(tenant, device, {
      sync: true,
      keys: key === '' ? [] : [key],
      run: draft => {
        marked = []
        const record = draft.keyRecord(key)
        const earlier = record === undefined ? undefined : draft.command(record.id)
        if (record !== undefined && earlier !== undefined && (!isFinished(earlier) || record.createdAt > draft.nowUs - keysKeptUs)) {
          return record.fingerprint === idempotency?.fingerprint ? { kind: 'repeated', command: earlier } : { kind: 'mismatch' }
        }
        if (draft.pending.size >= pendingMax) return { kind: 'limit_reached', detail: `device '${device}' has ${draft.pending.size} commands pending; ${pendingMax} are allowed` }
        if (draft.finishedCount >= finishedHardMax) return { kind: 'limit_reached', detail: `device '${device}' had ${draft.finishedCount} commands with an Idempotency-Key in the last 24 h; more cannot be remembered` }
        draft.add(command, idempotency === null ? null : { id: command.id, fingerprint: idempotency.fingerprint, createdAt })
        if (!isConnected) draft.change(command.id, { kind: 'notConnected', at: draft.nowUs })
        marked = this.#delivery.mark(tenant, device, draft)
        return { kind: 'created', command: draft.command(command.id) ?? command }
      }
    }).catch((error: unknown) => {
      this.#delivery.doubt(marked)
      throw error
    })
    this.#delivery.handOver(marked)
    if (outcome.kind === 'created') this.#stats.created++
    else if (outcome.kind === 'repeated') this.#stats.repeated++
    else this.#stats.refused++
    return outcome
  }

  async get (tenant: string, device: string, id: string): Promise<Command | null> {
    return await this.#keeper.command(tenant, device, id)
  }

  async list (tenant: string, device: string, query: CommandQuery): Promise<CommandPage> {
    const { pending } = await this.#keeper.read(tenant, device, true)
    return await listCommands(this.#options.store, tenant, device, pending.values(), query, this.#options.clock.nowUs())
  }

  async cancel (tenant: string, device: string, id: string): Promise<CancelOutcome> {
    const outcome = await this.#keeper.apply<CancelOutcome>(tenant, device, {
      ids: [id],
      sync: true,
      run: draft => {
        const command = draft.command(id)
        if (command === undefined) return { kind: 'not_found' }
        // What is overdue has expired, whether that was written down yet or not.
        if (command.attempts.length === 0) draft.change(id, { kind: 'deadline', at: draft.nowUs })
        const reduced = draft.change(id, { kind: 'cancelled', at: draft.nowUs })
        return reduced.kind === 'changed' ? { kind: 'cancelled', command: reduced.command } : { kind: 'too_late', command: draft.command(id) ?? command }
      }
    })
    if (outcome.kind === 'cancelled') this.#stats.cancelled++
    return outcome
  }

  async wait (tenant: string, device: string, id: string, waitMs: number): Promise<Command | null> {
    const read = async (): Promise<Command | null> => await this.get(tenant, device, id)
    if (waitMs <= 0) return await read()
    // What is remembered as pending has not ended here, and another node that ends it rings, or is found at the next look.
    const pending = this.#keeper.peek(tenant, device)?.pending.has(id) === true
    return await this.#waiters.wait(tenant, device, id, waitMs, { read, now: !pending, everyMs: this.#options.shared ? lookAgainMs : 0 }) ?? await read()
  }

  async poll (tenant: string, device: string, limit: number): Promise<readonly Command[]> {
    const { clock } = this.#options
    const connection = `http-${randomUUID()}`
    const elsewhere = ({ attempts }: Command): boolean => attempts.some(attempt => this.#delivery.isOpen(tenant, device, attempt.connection))
    const sent = await this.#keeper.apply(tenant, device, {
      sync: true,
      run: draft => markSent(draft, { connection, via: 'http', limit, wanted: command => !elsewhere(command), again: () => true })
    })
    const nowUs = clock.nowUs()
    const passed = sent.filter(({ expiresAt }) => nowUs >= expiresAt).map(({ id }) => id)
    if (passed.length > 0) {
      await this.#keeper.apply(tenant, device, { ids: passed, sync: true, run: draft => { for (const id of passed) draft.change(id, { kind: 'withheld', at: draft.nowUs, connection }) } })
    }
    return sent.filter(({ id }) => !passed.includes(id))
  }

  async deviceDeleted (tenant: string, device: string): Promise<void> {
    await this.#keeper.apply(tenant, device, {
      sync: true,
      run: draft => { for (const id of [...draft.pending.keys()]) draft.change(id, { kind: 'deviceDeleted', at: draft.nowUs }) }
    })
    await this.#keeper.erase(tenant, device)
  }

  stopWaiting (): void {
    this.#waiters.close()
  }

  view (command: Command): CommandView {
    return { command, state: stateOf(command), finished: isFinished(command), finishedAt: finishedAt(command), delivery: deliveryOf(command) }
  }

  /** IntentHandler: what this node committed before it died is told again. */
  async repeat (key: EntityKey): Promise<void> {
    if (key.kind === 'commands') await this.#keeper.repeat(key.tenant, key.device)
  }

  #changed (tenant: string, device: string, commands: readonly Command[], book: Book): void {
    const { shared, bell } = this.#options
    this.#waiters.changed(commands)
    this.#deadlines.note(tenant, device, book)
    // Others are told of what there is to hand over, and of ends that requests there wait for.
    if (commands.some(command => command.attempts.length === 0 || (shared && isFinished(command)))) {
      this.#ringing = true
      bell.ring(tenant, device, 'commands')
      this.#ringing = false
    }
    if (book.state.finished > finishedMax + trimSlack) void this.#trim(tenant, device)
  }

  async #trim (tenant: string, device: string): Promise<void> {
    const { store, clock, log } = this.#options
    const id = `${tenant}\0${device}`
    if (this.#trimmed.has(id)) return
    this.#trimmed.set(id, true)
    try {
      while (await trimFinished(store, this.#keeper, tenant, device, clock.nowUs()));
    } catch (error) {
      log.warn({ error, tenant, device }, 'old commands could not be taken away; it is tried again later')
      return
    }
    if ((this.#keeper.peek(tenant, device)?.state.finished ?? 0) <= finishedMax) this.#trimmed.delete(id)
  }
}
