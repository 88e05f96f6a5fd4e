/**
 * `DeviceInlet` on the journal: what a device says over HTTP takes the same way as over MQTT. Bounded: `waitingMax` requests wait to be
 * applied; one more is refused with `throttled`, and so are all while the gate slows senders. With `ack: replicated` durable means applied:
 * what is not after `unconfirmedMsMax` is answered with `journal_unavailable`, and may be applied yet.
 */
import { TwinfoldError } from '../core/errors.js'
import type { Pressure } from '../gate/pressure.js'
import type { Journal } from '../journal/journal-types.js'
import { encodeIdentity, RecordKind, recordHeaderBytes } from '../journal/record.js'
import type { Applier } from './applier.js'
import type { DeviceInlet, MessageOutcome } from './device-message.js'
import { encodeMessage } from './message-record.js'

export interface JournalInletOptions {
  /** The one that edges append to. */
  readonly journal: Journal
  readonly applier: Pick<Applier, 'whenApplied'>
  readonly pressure?: Pick<Pressure, 'level'>
  readonly waitingMax?: number
}

const unconfirmedMsMax = 30_000

export class JournalInlet implements DeviceInlet {
  readonly #options: JournalInletOptions
  #waiting = 0

  constructor (options: JournalInletOptions) { this.#options = options }

  /** Requests that wait to be applied. */
  get waiting (): number { return this.#waiting }

  async submit ({ tenant, device, path, payload }: Parameters<DeviceInlet['submit']>[0], waitMs: number): Promise<MessageOutcome | null> {
    const { journal, applier, pressure, waitingMax = 10_000 } = this.#options
    if (pressure?.level === 'slow') throw new TwinfoldError('throttled', 'messages of devices are applied more slowly than they are sent', { retryAfterMs: 1000 })
    if (this.#waiting >= waitingMax) throw new TwinfoldError('throttled', 'too many messages of devices wait to be applied', { retryAfterMs: 1000 })
    const identity = encodeIdentity({ tenant, device, idempotencyKey: '', fingerprint: '' })
    const body = encodeMessage(`devices/${device}/${path}`, payload)
    this.#waiting++
    let stop = (): void => {}
    let timer: NodeJS.Timeout | undefined
    try {
      return await new Promise<MessageOutcome | null>((resolve, reject) => {
        let durable = false
        let waited = waitMs <= 0
        journal.append({ kind: RecordKind.deviceMessages, flags: 0, identity, body, messages: 1 }, {
          committed: () => {
            durable = true
            if (waited) resolve(null)
          },
          failed: (_token, error) => { reject(error instanceof TwinfoldError ? error : new TwinfoldError('journal_unavailable', 'the journal could not be written; nothing was accepted', { cause: error })) }
        }, 0)
        stop = applier.whenApplied(journal.appendedEnd - recordHeaderBytes - identity.length - body.length, resolve)
        timer = setTimeout(() => {
          waited = true
          if (durable) return resolve(null)
          timer = setTimeout(() => { reject(new TwinfoldError('journal_unavailable', 'it is not confirmed yet, and may be applied later', { retryAfterMs: 5000 })) }, unconfirmedMsMax)
        }, waitMs)
      })
    } finally {
      this.#waiting--
      clearTimeout(timer)
      stop()
    }
  }
}
