/** So many at once, first come first served. Whoever waits holds nothing. */
export class Slots {
  #free: number
  readonly #waiting: (() => void)[] = []

  constructor (count: number) { this.#free = count }

  async run<T> (action: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--
    else await new Promise<void>(resolve => { this.#waiting.push(resolve) })
    try {
      return await action()
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#free++
      else next()
    }
  }
}
