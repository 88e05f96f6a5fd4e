/**
 * Writes what the MQTT gate refused into the dead-letter log (INVARIANTS 9). The edge must not wait, so refusals gather here
 * and are written together; bounded: beyond `waitingMax` they are counted and not kept.
 */
import type { Log } from '../core/log.js'
import { RecordKind } from '../journal/record.js'
import { refusedToDeadLetter } from '../store/dead-letter-row.js'
import type { DeadLetter, DeadLetterReason } from '../store/dead-letter-store.js'

export interface Refusal {
  readonly tenant: string
  readonly device: string
  readonly topic: string
  /** May be part of a larger buffer that is used again: copied here. */
  readonly payload: Uint8Array
  readonly reason: DeadLetterReason
  readonly detail: string
}

export interface RefusalWriterOptions {
  readonly deadLetters: { add(letters: readonly DeadLetter[]): Promise<void> }
  /** Accept stamps in µs; need not be unique. */
  readonly stamp: () => number
  readonly journalId: string
  readonly log: Log
  readonly waitingMax?: number
}

export class RefusalWriter {
  readonly #options: RefusalWriterOptions
  readonly #waitingMax: number
  #waiting: DeadLetter[] = []
  #writing: Promise<void> | null = null
  #serial = 0
  readonly stats = { kept: 0, notKept: 0, failed: 0 }

  constructor (options: RefusalWriterOptions) {
    this.#options = options
    this.#waitingMax = options.waitingMax ?? 1000
  }

  add (refusal: Refusal): void {
    if (this.#waiting.length >= this.#waitingMax) {
      this.stats.notKept++
      return
    }
    const stamp = this.#options.stamp()
    this.#serial = (this.#serial + 1) % 1e9
    // `g`: refused at the gate; the letters of packers have plain numbers here.
    this.#waiting.push(refusedToDeadLetter({
      tenant: refusal.tenant,
      stamp,
      index: `g${this.#serial}`,
      journalId: this.#options.journalId,
      reason: refusal.reason,
      detail: refusal.topic === '' ? refusal.detail : `${refusal.detail} (topic '${refusal.topic}')`,
      device: refusal.device,
      source: 'mqtt',
      format: RecordKind.bodyAuto,
      payload: refusal.payload
    }))
    this.#writing ??= this.#write().finally(() => { this.#writing = null })
  }

  async #write (): Promise<void> {
    while (this.#waiting.length > 0) {
      const letters = this.#waiting
      this.#waiting = []
      try {
        await this.#options.deadLetters.add(letters)
        this.stats.kept += letters.length
      } catch (error) {
        this.stats.failed += letters.length
        this.#options.log.warn({ error: (error as Error).message, letters: letters.length }, 'dead letters could not be written')
      }
    }
  }

  async close (): Promise<void> {
    await this.#writing
  }
}
