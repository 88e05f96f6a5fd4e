/** Parts are opened in order and closed in reverse; a part that fails to open closes those before it. */
export interface Part {
  readonly name: string
  open?(): Promise<void>
  close?(): Promise<void>
}

export class Lifecycle {
  readonly #open: Part[] = []

  async open (part: Part): Promise<void> {
    try {
      await part.open?.()
    } catch (error) {
      await this.close()
      throw error
    }
    this.#open.push(part)
  }

  /** Closes everything in reverse order, once; the first failure is thrown after all had their turn. */
  async close (): Promise<void> {
    let failure: unknown
    for (let part = this.#open.pop(); part !== undefined; part = this.#open.pop()) {
      try {
        await part.close?.()
      } catch (error) {
        failure ??= error
      }
    }
    if (failure !== undefined) throw failure
  }
}
