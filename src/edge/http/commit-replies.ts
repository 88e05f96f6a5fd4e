/**
 * The HTTP side of the group commit: one waiter for all requests, with a table from token to reply, so that a request costs
 * neither a promise nor a closure. INVARIANTS 1: the 202 is written in `committed` and nowhere else.
 */
import type { FastifyReply } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import type { Log } from '../../core/log.js'
import type { AppendOptions, CommitWaiter, Journal } from '../../journal/journal-types.js'
import type { BodyReader } from './body-reader.js'
import type { EdgeContext } from './edge-context.js'
import type { IdempotencyClaim } from './idempotency-keys.js'

interface Slot {
  reply: FastifyReply | null
  claim: IdempotencyClaim | null
  stamp: number
  bytes: number
}

export class CommitReplies implements CommitWaiter {
  readonly #context: EdgeContext
  readonly #journal: Journal
  readonly #log: Log
  readonly #bodies: BodyReader
  /** Grows to the greatest number of requests that ever waited for one commit; the byte bound of BodyReader limits that. */
  readonly #slots: Slot[] = []
  readonly #free: number[] = []

  constructor (context: EdgeContext, bodies: BodyReader) {
    this.#context = context
    this.#journal = context.options.journal
    this.#log = context.options.log
    this.#bodies = bodies
  }

  /** Requests that wait for their commit. */
  get waiting (): number { return this.#slots.length - this.#free.length }

  /** @throws TwinfoldError what the journal throws; nothing is kept then. */
  append (options: AppendOptions, reply: FastifyReply, claim: IdempotencyClaim | null): void {
    const token = this.#free.pop() ?? this.#slots.push({ reply: null, claim: null, stamp: 0, bytes: 0 }) - 1
    const slot = this.#slots[token]
    slot.reply = reply
    slot.claim = claim
    slot.bytes = options.body.length
    try {
      slot.stamp = this.#journal.append(options, this, token)
    } catch (error) {
      this.#release(token)
      throw error
    }
  }

  committed (token: number): void {
    const { reply, claim, stamp, bytes } = this.#slots[token]
    this.#release(token)
    this.#bodies.release(bytes)
    const { stats, stamps } = this.#context
    stats.telemetryAccepted++
    stats.telemetryBytes += bytes
    stamps.observe(stamp)
    try {
      claim?.accepted(stamp)
      sendAccepted(reply as FastifyReply, stamp)
    } catch (error) {
      this.#log.error({ error }, 'an acknowledgement could not be written')
    }
  }

  failed (token: number, error: Error): void {
    const { reply, claim, bytes } = this.#slots[token]
    this.#release(token)
    this.#bodies.release(bytes)
    try {
      claim?.abandoned()
      void (reply as FastifyReply).send(error instanceof TwinfoldError
        ? error
        : new TwinfoldError('journal_unavailable', 'the journal could not be written; nothing was accepted', { cause: error, retryAfterMs: 1000 }))
    } catch (failure) {
      this.#log.error({ error: failure }, 'a refusal could not be written')
    }
  }

  #release (token: number): void {
    const slot = this.#slots[token]
    slot.reply = null
    slot.claim = null
    this.#free.push(token)
  }
}

/** The one form of a positive answer to telemetry; `stamp` in µs. */
export function sendAccepted (reply: FastifyReply, stamp: number): void {
  void reply.code(202).header('content-type', 'application/json; charset=utf-8').send(`{"accepted":true,"stamp":${stamp}}`)
}
