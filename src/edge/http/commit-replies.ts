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
  /** The journal's `appendedEnd` behind the record. */
  end: number
  bytes: number
  /** Monotonic ms of the append. */
  sinceMs: number
}

/**
 * Requests are answered within this time even where acknowledgements wait for Cassandra (`ack: replicated`). The journal
 * itself answers within a disk's latency, or fails.
 */
const answerMsMax = 30_000
const sweepMs = 1000

export class CommitReplies implements CommitWaiter {
  readonly #context: EdgeContext
  readonly #journal: Journal
  readonly #log: Log
  readonly #bodies: BodyReader
  /** Grows to the greatest number of requests that ever waited for one commit; the byte bound of BodyReader limits that. */
  readonly #slots: Slot[] = []
  readonly #free: number[] = []
  #sweep: NodeJS.Timeout | null = null

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
    const token = this.#free.pop() ?? this.#slots.push({ reply: null, claim: null, stamp: 0, end: 0, bytes: 0, sinceMs: 0 }) - 1
    const slot = this.#slots[token]
    slot.reply = reply
    slot.claim = claim
    slot.bytes = options.body.length
    slot.sinceMs = this.#context.options.clock.monotonicMs()
    try {
      slot.stamp = this.#journal.append(options, this, token)
      slot.end = this.#journal.appendedEnd
    } catch (error) {
      this.#release(token)
      throw error
    }
    this.#sweepLater()
  }

  committed (token: number): void {
    const { reply, claim, stamp, end, bytes } = this.#slots[token]
    this.#release(token)
    this.#bodies.release(bytes)
    const { stats, stamps } = this.#context
    stats.telemetryAccepted++
    stats.telemetryBytes += bytes
    stamps.observe(stamp)
    try {
      claim?.accepted(stamp, end)
      if (reply !== null) sendAccepted(reply, stamp)
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
      void reply?.send(error instanceof TwinfoldError
        ? error
        : new TwinfoldError('journal_unavailable', 'the journal could not be written; nothing was accepted', { cause: error, retryAfterMs: 1000 }))
    } catch (failure) {
      this.#log.error({ error: failure }, 'a refusal could not be written')
    }
  }

  /**
   * Answers what has waited too long. The record stays in the journal and is packed in time, so the slot, the claim and the
   * bytes in flight are held until then: a repetition with the same key waits for it, and what piles up slows the senders.
   */
  #answerOverdue (): void {
    const nowMs = this.#context.options.clock.monotonicMs()
    for (const slot of this.#slots) {
      if (slot.reply === null || nowMs - slot.sinceMs < answerMsMax) continue
      const { reply } = slot
      slot.reply = null
      try {
        void reply.send(new TwinfoldError('store_unavailable', 'accepted in the journal of this node, but not replicated in time; it will be stored when Cassandra answers again. Safe to send again with the same timestamps or Idempotency-Key; without either it may count twice', { retryAfterMs: 5000 }))
      } catch (error) {
        this.#log.error({ error }, 'a refusal could not be written')
      }
    }
    if (this.waiting > 0) this.#sweepLater()
  }

  #sweepLater (): void {
    this.#sweep ??= setTimeout(() => {
      this.#sweep = null
      this.#answerOverdue()
    }, sweepMs).unref()
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
