/**
 * Dead letters back into the journal, each as one record with its original stamp (DESIGN 3.8), and out of the log once that
 * record is durable: a crash in between leaves both, and the same points merge into one (INVARIANTS 3).
 */
import { TwinfoldError } from '../../core/errors.js'
import type { CommitWaiter } from '../../journal/journal-types.js'
import { encodeIdentity, RecordFlags, RecordKind } from '../../journal/record.js'
import type { DeadLetter } from '../../store/dead-letter-store.js'
import type { EdgeContext } from './edge-context.js'
import { correctedMessage, letterMessage } from './message-letter.js'

/** A payload to send instead; exactly one member. */
export interface Correction { readonly text?: string, readonly base64?: string }

export type ReplayResult = { readonly id: string, readonly result: 'replayed' | 'not_found' | 'truncated' | 'device_unknown' }

/** One waiter for all records of a replay; the tokens are their positions. */
class Commits implements CommitWaiter {
  readonly done: Promise<void>
  #left = 1
  #failure: Error | null = null
  #resolve!: () => void
  #reject!: (error: Error) => void

  constructor () {
    this.done = new Promise((resolve, reject) => { this.#resolve = resolve; this.#reject = reject })
    // A failure is looked at when `done` is awaited.
    this.done.catch(() => {})
  }

  add (): void { this.#left++ }
  /** No more records follow. */
  sealed (): void { this.#settle() }
  committed (): void { this.#settle() }
  failed (_token: number, error: Error): void {
    this.#failure ??= error
    this.#settle()
  }

  #settle (): void {
    if (--this.#left > 0) return
    if (this.#failure === null) this.#resolve()
    else this.#reject(this.#failure instanceof TwinfoldError ? this.#failure : new TwinfoldError('journal_unavailable', 'the journal could not be written; the letters are still there', { cause: this.#failure }))
  }
}

/** Formats that a body record can have; a letter in another one (a packet that could not be read) is judged by its content. */
const bodyKinds: ReadonlySet<number> = new Set([RecordKind.bodyAuto, RecordKind.bodyNdjson, RecordKind.bodySenmlJson, RecordKind.bodySenmlCbor, RecordKind.bodyCbor, RecordKind.deviceMessages])
const kindOf = (format: number): RecordKind => bodyKinds.has(format) ? format as RecordKind : RecordKind.bodyAuto

function bodyOf (letter: DeadLetter, correction: Correction | undefined): Buffer | null {
  const corrected = correction?.text !== undefined ? Buffer.from(correction.text) : correction?.base64 !== undefined ? Buffer.from(correction.base64, 'base64') : null
  if (corrected !== null) {
    const message = letterMessage(letter)
    return message === null ? corrected : correctedMessage(message, corrected)
  }
  return letter.payloadBytes > letter.payload.length || letter.payload.length === 0 ? null : Buffer.from(letter.payload)
}

/** @throws TwinfoldError `journal_full`, `journal_unavailable`, `throttled`: no letter is deleted then. */
export async function replayLetters (context: EdgeContext, tenant: string, ids: readonly string[], corrections: Readonly<Record<string, Correction>>): Promise<readonly ReplayResult[]> {
  const { store, journal, pressure } = context.options
  if (pressure.level !== 'open') throw new TwinfoldError('throttled', 'readings are packed more slowly than they are sent; replay later', { retryAfterMs: 5000 })
  const results: ReplayResult[] = []
  const sendable: { letter: DeadLetter, body: Buffer }[] = []
  for (const id of ids) {
    const letter = await store.getDeadLetter(tenant, id)
    const body = letter === null ? null : bodyOf(letter, Object.hasOwn(corrections, id) ? corrections[id] : undefined)
    if (letter === null) results.push({ id, result: 'not_found' })
    else if (body === null) results.push({ id, result: 'truncated' })
    else if (letter.device !== '' && !(await context.devices.find(tenant, letter.device)).known) results.push({ id, result: 'device_unknown' })
    else sendable.push({ letter, body })
  }
  const commits = new Commits()
  try {
    sendable.forEach(({ letter, body }, index) => {
      const namesDevice = letter.multiDevice === true || letter.device === ''
      const flags = RecordFlags.replay | (namesDevice ? RecordFlags.multiDevice : 0)
      const identity = encodeIdentity({ tenant, device: namesDevice ? '' : letter.device, idempotencyKey: '', fingerprint: '' })
      commits.add()
      journal.append({ kind: kindOf(letter.format), flags, identity, body, messages: 1, stamp: letter.stamp }, commits, index)
    })
  } catch (error) {
    // The records before this one are in the journal: their replay stands, and so do all letters.
    throw error instanceof TwinfoldError ? error : new TwinfoldError('journal_unavailable', 'the journal could not be written; the letters are still there', { cause: error })
  }
  commits.sealed()
  await commits.done
  await store.deleteDeadLetters(tenant, sendable.map(({ letter }) => letter.id))
  return [...results, ...sendable.map(({ letter }) => ({ id: letter.id, result: 'replayed' as const }))]
}
