/** What the tests of the applier share: a real journal in a directory, and handlers that write down what they get. */
import { systemClock } from '../../src/core/clock.js'
import { TwinfoldError } from '../../src/core/errors.js'
import { silentLog } from '../../src/core/log.js'
import { Applier, type ApplierOptions } from '../../src/inlet/applier.js'
import type { DeviceMessage, MessageHandler, MessageOutcome } from '../../src/inlet/device-message.js'
import { InletJournal } from '../../src/inlet/inlet-journal.js'
import { encodeMessage } from '../../src/inlet/message-record.js'
import type { JournalFiles } from '../../src/journal/journal.js'
import { encodeIdentity, RecordKind } from '../../src/journal/record.js'
import type { DeadLetter } from '../../src/store/dead-letter-store.js'
import type { CursorStore } from '../../src/store/small-stores.js'
import { open } from '../journal/journal-support.js'

export class MemoryCursors implements CursorStore {
  readonly positions = new Map<string, number>()
  getCursor (_journalId: string, consumer: string): Promise<number | null> { return Promise.resolve(this.positions.get(consumer) ?? null) }
  putCursor (_journalId: string, consumer: string, position: number): Promise<void> {
    this.positions.set(consumer, position)
    return Promise.resolve()
  }
}

export interface Seen { readonly device: string, readonly path: string, readonly text: string, readonly position: number, readonly stamp: number, readonly replayed: boolean }

/** Applies by writing down; keeps the highest position of each device, as the real ones do, so that a repeat is `unchanged`. */
export class RecordingHandler implements MessageHandler {
  readonly seen: Seen[] = []
  readonly repeats: Seen[] = []
  readonly batches: number[] = []
  /** While true every call is refused by the store. */
  away = false
  /** Resolves before a call does anything. */
  gate: Promise<void> = Promise.resolve()
  /** Payloads that make a call fail. */
  poison: (text: string) => boolean = () => false
  calls = 0
  readonly #prefix: string
  readonly #order: Seen[]
  readonly #applied: Map<string, number>

  /** @param order filled by several handlers; @param applied highest positions, which outlive a process */
  constructor (prefix: string, order: Seen[] = [], applied = new Map<string, number>()) {
    this.#prefix = prefix
    this.#order = order
    this.#applied = applied
  }

  takes (path: string): boolean { return path.startsWith(this.#prefix) }

  async apply (messages: readonly DeviceMessage[]): Promise<readonly MessageOutcome[]> {
    this.calls++
    await this.gate
    if (this.away) throw new TwinfoldError('store_unavailable', 'the store is away')
    const texts = messages.map(({ payload }) => Buffer.from(payload).toString())
    if (texts.some(this.poison)) throw new Error('poison')
    this.batches.push(messages.length)
    return messages.map(({ device, path, position, stamp, replayed }, i): MessageOutcome => {
      const seen = { device, path, text: texts[i], position, stamp, replayed }
      if (texts[i] === 'refuse') return { kind: 'refused', code: 'invalid_field', detail: 'it says so itself' }
      const key = `${this.#prefix} ${device}`
      if (position <= (this.#applied.get(key) ?? -1)) {
        this.repeats.push(seen)
        return { kind: 'unchanged' }
      }
      this.#applied.set(key, position)
      this.seen.push(seen)
      this.#order.push(seen)
      return { kind: 'applied' }
    })
  }
}

export interface World {
  readonly files: JournalFiles
  readonly journal: InletJournal
  readonly applier: Applier
  readonly cursors: MemoryCursors
  readonly letters: DeadLetter[]
  /** Appends a message; resolves when it is durable. */
  say (device: string, path: string, text: string | Buffer): Promise<void>
  close (): Promise<void>
}

/** One process on the directory. */
export async function startWorld (directory: string, handlers: readonly MessageHandler[], more: Partial<ApplierOptions> & { readonly segmentBytesMax?: number } = {}): Promise<World> {
  const { segmentBytesMax, ...options } = more
  const files = await open(directory, { clock: systemClock, ...(segmentBytesMax === undefined ? {} : { segmentBytesMax }) })
  const cursors = more.cursors as MemoryCursors | undefined ?? new MemoryCursors()
  const letters: DeadLetter[] = []
  const applier = new Applier({
    journal: files,
    from: 0,
    handlers,
    intents: null,
    deadLetters: { add: added => { letters.push(...added); return Promise.resolve() } },
    clock: systemClock,
    log: silentLog,
    pauseMs: [1, 5],
    ...options,
    cursors
  })
  const journal = new InletJournal(files, applier)
  return {
    files,
    journal,
    applier,
    cursors,
    letters,
    say: async (device, path, text) => { await appended(journal, device, path, text) },
    close: async () => {
      await applier.close()
      await files.close()
    }
  }
}

export function appended (journal: InletJournal, device: string, path: string, text: string | Buffer): Promise<void> {
  const identity = encodeIdentity({ tenant: 'acme', device, idempotencyKey: '', fingerprint: '' })
  return new Promise((resolve, reject) => {
    journal.append({ kind: RecordKind.deviceMessages, flags: 0, identity, body: encodeMessage(`devices/${device}/${path}`, Buffer.from(text)), messages: 1 },
      { committed: () => { resolve() }, failed: (_token, error) => { reject(error) } }, 0)
  })
}

/** Telemetry between the messages. */
export function telemetry (journal: InletJournal, bytes: number): Promise<void> {
  const identity = encodeIdentity({ tenant: 'acme', device: 'pump', idempotencyKey: '', fingerprint: '' })
  return new Promise((resolve, reject) => {
    journal.append({ kind: RecordKind.bodyAuto, flags: 0, identity, body: Buffer.alloc(bytes, 0x31), messages: 1 }, { committed: () => { resolve() }, failed: (_token, error) => { reject(error) } }, 0)
  })
}
