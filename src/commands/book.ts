/**
 * The book of one device: its pending commands in memory, beside the version they were read at; and a draft of the next version,
 * on which several changes are made that are committed in one step. Pure.
 */
import type { EntityCommit, EntityKey } from '../store/entity-store.js'
import type { OutEvent } from '../store/event-log.js'
import { isFinished, type Command } from './command.js'
import { encodeBookState, encodeCommand, encodeKeyRecord, type BookState, type KeyRecord } from './command-codec.js'
import { commandEvent } from './command-event.js'
import { finishedItem, keyItem, pendingItem } from './command-id.js'
import { reduceCommand, type CommandChange, type Reduced, type Told } from './reduce-command.js'

/** Journals whose positions a book keeps: every node has one; an older one has nothing left that could come again. */
const journalsMax = 16

export interface Book {
  readonly version: number
  /** False: the entity is absent or deleted; the version goes on. */
  readonly exists: boolean
  readonly state: BookState
  readonly pending: ReadonlyMap<string, Command>
  /** The last commit may not have been told by who made it. */
  readonly untold: boolean
  /** UTF-8 bytes of its rows, about: for the bound of what is kept in memory. */
  readonly bytes: number
}

export function bookKey (tenant: string, device: string): EntityKey {
  return { tenant, device, kind: 'commands', name: '' }
}

/** What a draft may look at beyond the pending commands; read before it is made. */
export interface Beside {
  /** Finished commands by id. */
  readonly finished: ReadonlyMap<string, Command>
  /** By key. */
  readonly keys: ReadonlyMap<string, KeyRecord>
}

export class BookDraft {
  readonly nowUs: number
  readonly #book: Book
  readonly #pending: Map<string, Command>
  readonly #finished: Map<string, Command>
  readonly #keys: Map<string, KeyRecord>
  readonly #items = new Map<string, string | null>()
  readonly #told: { id: string, told: Told, at: number }[] = []
  #finishedCount: number
  #lookAtMinute: number
  #positions: Record<string, number>
  #changed = false

  constructor (book: Book, beside: Beside, nowUs: number) {
    this.nowUs = nowUs
    this.#book = book
    this.#pending = new Map(book.pending)
    this.#finished = new Map(beside.finished)
    this.#keys = new Map(beside.keys)
    this.#finishedCount = book.state.finished
    this.#lookAtMinute = book.state.lookAtMinute
    this.#positions = { ...book.state.positions }
  }

  get pending (): ReadonlyMap<string, Command> { return this.#pending }
  get finishedCount (): number { return this.#finishedCount }
  get lookAtMinute (): number { return this.#lookAtMinute }
  get changed (): boolean { return this.#changed }

  /** Pending, or finished where the operation named it. */
  command (id: string): Command | undefined {
    return this.#pending.get(id) ?? this.#finished.get(id)
  }

  keyRecord (key: string): KeyRecord | undefined {
    return this.#keys.get(key)
  }

  positionOf (journalId: string): number {
    return this.#positions[journalId] ?? -1
  }

  add (command: Command, record: KeyRecord | null): void {
    this.#put(command, ['queued'], command.createdAt)
    if (record === null) return
    this.#keys.set(command.key, record)
    this.#items.set(keyItem(command.key), encodeKeyRecord(record))
  }

  /** The command as it is then; what is refused changes nothing. */
  change (id: string, change: CommandChange): Reduced {
    const command = this.command(id)
    if (command === undefined) return { kind: 'refused', why: 'there is no such command' }
    const reduced = reduceCommand(command, change)
    if (reduced.kind === 'changed') this.#put(reduced.command, reduced.told, change.at)
    return reduced
  }

  /** INVARIANTS 3: what the journal gives again is known by its position. */
  applied (journalId: string, position: number): void {
    const { [journalId]: _before, ...others } = this.#positions
    const kept = Object.entries(others).slice(1 - journalsMax)
    this.#positions = { ...Object.fromEntries(kept), [journalId]: position }
    this.#changed = true
  }

  /** The deadline index names the book there. */
  lookAt (minute: number): void {
    this.#lookAtMinute = minute
    this.#changed = true
  }

  /** A finished one that is kept no longer, and its key, where that is not another's by now. */
  forget (command: Command): void {
    if (!this.#finished.delete(command.id)) return
    this.#items.set(finishedItem(command.id), null)
    if (this.#keys.get(command.key)?.id === command.id) {
      this.#keys.delete(command.key)
      this.#items.set(keyItem(command.key), null)
    }
    this.#finishedCount = Math.max(0, this.#finishedCount - 1)
    this.#changed = true
  }

  #put (command: Command, told: readonly Told[], at: number): void {
    const { id } = command
    this.#changed = true
    for (const name of told) this.#told.push({ id, told: name, at })
    if (!isFinished(command)) {
      this.#pending.set(id, command)
      this.#items.set(pendingItem(id), encodeCommand(command))
      return
    }
    if (this.#pending.delete(id)) {
      if (this.#book.pending.has(id)) this.#items.set(pendingItem(id), null)
      else this.#items.delete(pendingItem(id))
      this.#finishedCount++
    }
    this.#finished.set(id, command)
    this.#items.set(finishedItem(id), encodeCommand(command))
  }

  /** The commit that makes the draft true, and the book after it. @param earlier events of the last commit, told again first */
  finish (tenant: string, device: string, writer: string, earlier: readonly OutEvent[], deleted: boolean): { readonly commit: EntityCommit, readonly book: Book } {
    const from = this.#book.version + 1
    const last = this.#told.map(({ id, told, at }, index) => ({ number: from + index, id, told, at }))
    const version = this.#book.version + Math.max(1, last.length)
    const state: BookState = { pending: this.#pending.size, finished: this.#finishedCount, lookAtMinute: this.#lookAtMinute, positions: this.#positions, last }
    const outbox = last.flatMap(entry => {
      const command = this.command(entry.id)
      return command === undefined ? [] : [commandEvent(tenant, device, command, entry)]
    })
    const items = [...this.#items].map(([id, body]) => ({ id, body }))
    const bytes = [...this.#pending.keys()].reduce((sum, id) => sum + (this.#items.get(pendingItem(id))?.length ?? 512), 512)
    return {
      commit: { key: bookKey(tenant, device), writer, expected: this.#book.version, version, state: deleted ? null : encodeBookState(state), events: [], items, outbox: [...earlier, ...outbox] },
      book: { version, exists: !deleted, state, pending: this.#pending, untold: false, bytes: Math.max(bytes, this.#book.bytes) }
    }
  }

  /** Commands that the draft changed, as they are then. */
  get changedCommands (): Command[] {
    return [...new Set(this.#told.map(({ id }) => id))].flatMap(id => this.command(id) ?? [])
  }
}
