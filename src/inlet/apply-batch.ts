/**
 * One batch of messages to their handlers and to the end: applied, or refused and in the dead letters (INVARIANTS 9). A device's messages
 * are handled in their order, whichever handlers they are for; those of different devices side by side. While a store is away a batch
 * is tried again for as long as it takes. Where a handler fails otherwise, the batch is tried `attemptsMax` times, then in halves, down
 * to the message that it fails on: that is refused, so that it holds up nobody else's.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { TwinfoldError } from '../core/errors.js'
import type { Log } from '../core/log.js'
import type { EntityKey } from '../store/entity-store.js'
import type { DeviceMessage, IntentHandler, MessageHandler, MessageOutcome } from './device-message.js'

/** A message, or the note of a change that may not have been told (`intent`). */
export type BatchItem =
  | { readonly kind: 'message', readonly message: DeviceMessage }
  | { readonly kind: 'intent', readonly key: EntityKey }

export interface Refused { readonly message: DeviceMessage, readonly code: string, readonly detail: string }

export interface ApplyBatchOptions {
  readonly handlers: readonly MessageHandler[]
  readonly intents: IntentHandler | null
  /** Keeps what was refused; resolves when it is stored. */
  readonly keepRefused: (refused: readonly Refused[]) => Promise<void>
  readonly outcome: (message: DeviceMessage, outcome: MessageOutcome) => void
  readonly log: Log
  readonly stats: { applied: number, unchanged: number, refused: number, retries: number, poisoned: number, intents: number }
  /** Pauses between attempts, doubled from the first to the last, ms. Default 20 and 2000. */
  readonly pauseMs?: readonly [number, number]
}

const attemptsMax = 3

type Target = MessageHandler | 'intent' | null

interface Wave { readonly messages: Map<MessageHandler | null, DeviceMessage[]>, readonly intents: Map<string, EntityKey> }

/** Thrown where the applier closes while a store is away: what is not applied is applied after the next start. */
export class ApplyStopped extends Error {}

export class ApplyBatch {
  readonly #options: ApplyBatchOptions
  readonly #stop = new AbortController()
  #failing = 0

  constructor (options: ApplyBatchOptions) { this.#options = options }

  /** A store does not answer, and something waits for it. */
  get stuck (): boolean { return this.#failing > 0 }

  /** Ends waiting; `run` rejects with `ApplyStopped` instead of trying again. */
  stop (): void { this.#stop.abort() }

  async run (items: readonly BatchItem[]): Promise<void> {
    for (const wave of this.#waves(items)) {
      await Promise.all([
        ...[...wave.intents.values()].map(async key => { await this.#repeat(key) }),
        ...[...wave.messages].map(async ([handler, messages]) => { await this.#handle(handler, messages) })
      ])
    }
  }

  /** Puts each message into the first wave that has nothing of its device for another handler, nor is before one that has. */
  #waves (items: readonly BatchItem[]): Wave[] {
    const waves: Wave[] = []
    const last = new Map<string, { readonly target: Target, readonly wave: number }>()
    for (const item of items) {
      const { tenant, device } = item.kind === 'message' ? item.message : item.key
      const target = item.kind === 'message' ? this.#options.handlers.find(handler => handler.takes(item.message.path)) ?? null : 'intent' as const
      const of = `${tenant}\0${device}`
      const before = last.get(of)
      const index = before === undefined ? 0 : before.target === target ? before.wave : before.wave + 1
      last.set(of, { target, wave: index })
      const wave = waves[index] ??= { messages: new Map(), intents: new Map() }
      if (item.kind === 'intent') {
        wave.intents.set(`${of}\0${item.key.kind}\0${item.key.name}`, item.key)
        continue
      }
      const list = wave.messages.get(target as MessageHandler | null)
      if (list === undefined) wave.messages.set(target as MessageHandler | null, [item.message])
      else list.push(item.message)
    }
    return waves
  }

  async #repeat (key: EntityKey): Promise<void> {
    const { intents, log, stats } = this.#options
    if (intents === null) return
    const error = await this.#attempts(async () => { await intents.repeat(key) })
    stats.intents++
    if (error !== null) log.error({ tenant: key.tenant, device: key.device, error: error.message }, 'a change could not be told again')
  }

  async #handle (handler: MessageHandler | null, messages: readonly DeviceMessage[], attempts = attemptsMax): Promise<void> {
    if (handler === null) return await this.#settle(messages, messages.map(({ path }) => ({ kind: 'refused', code: 'not_found', detail: `nothing here takes '${path}'` })))
    let outcomes: readonly MessageOutcome[] = []
    const error = await this.#attempts(async () => {
      outcomes = await handler.apply(messages)
      if (outcomes.length !== messages.length) throw new Error(`${outcomes.length} outcomes for ${messages.length} messages`)
    }, attempts)
    if (error === null) return await this.#settle(messages, outcomes)
    if (messages.length === 1) {
      this.#options.stats.poisoned++
      this.#options.log.error({ tenant: messages[0].tenant, device: messages[0].device, path: messages[0].path, error: error.message }, 'a message of a device could not be applied')
      return await this.#settle(messages, [{ kind: 'refused', code: 'internal', detail: `it could not be applied: ${error.message}` }])
    }
    // One of them is at fault, or few: halves, so that the others do not pay with an attempt each.
    const half = messages.length >>> 1
    await this.#handle(handler, messages.slice(0, half), 1)
    await this.#handle(handler, messages.slice(half), 1)
  }

  async #settle (messages: readonly DeviceMessage[], outcomes: readonly MessageOutcome[]): Promise<void> {
    const { stats, keepRefused, outcome: tell } = this.#options
    const refused: Refused[] = []
    for (const [i, outcome] of outcomes.entries()) {
      if (outcome.kind === 'refused') refused.push({ message: messages[i], code: outcome.code, detail: outcome.detail })
      else stats[outcome.kind]++
    }
    if (refused.length > 0) {
      const error = await this.#attempts(async () => { await keepRefused(refused) })
      if (error !== null) this.#options.log.error({ error: error.message, letters: refused.length }, 'dead letters could not be written')
      stats.refused += refused.length
    }
    for (const [i, outcome] of outcomes.entries()) tell(messages[i], outcome)
  }

  /** Runs until it succeeds, as long as a store is away; null then. Else the error of the last attempt. */
  async #attempts (action: () => Promise<void>, most = attemptsMax): Promise<Error | null> {
    const [first, longest] = this.#options.pauseMs ?? [20, 2000]
    let failing = false
    try {
      for (let faults = 0, pauseMs = first; ; pauseMs = Math.min(longest, pauseMs * 2)) {
        try {
          await action()
          return null
        } catch (thrown) {
          const error = thrown as Error
          const away = error instanceof TwinfoldError && error.code === 'store_unavailable'
          if (!away && ++faults >= most) return error
          if (away && !failing) {
            failing = true
            this.#failing++
            this.#options.log.warn({ error: error.message }, 'messages of devices wait for a store')
          }
          this.#options.stats.retries++
        }
        await delay(pauseMs, undefined, { signal: this.#stop.signal }).catch(() => {})
        if (this.#stop.signal.aborted) throw new ApplyStopped('the applier was closed')
      }
    } finally {
      if (failing) this.#failing--
    }
  }
}
