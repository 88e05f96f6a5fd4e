/**
 * One at a time per key. Bounded by its callers: a key is kept only while somebody holds it or waits for it.
 */
export class KeyedLock {
  readonly #tails = new Map<string, Promise<unknown>>()

  /** Runs the action when all earlier ones of the key are done, whether they failed or not. */
  async run<T> (key: string, action: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key)
    const running = before === undefined ? action() : before.then(action, action)
    this.#tails.set(key, running)
    try {
      return await running
    } finally {
      if (this.#tails.get(key) === running) this.#tails.delete(key)
    }
  }

  /** Keys that are held. */
  get size (): number { return this.#tails.size }
}
