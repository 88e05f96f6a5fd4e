/** Requests that wait for the end of a command. Bounded: one more is not taken. */
import { isFinished, type Command } from './command.js'

interface Waiter { readonly device: string, readonly done: (command: Command | null) => void, readonly look: () => void }

export class CommandWaiters {
  readonly #waiters = new Map<string, Set<Waiter>>()
  readonly #max: number
  #count = 0

  constructor (max: number) {
    this.#max = max
  }

  get size (): number { return this.#count }

  /** What has changed in this process. */
  changed (commands: readonly Command[]): void {
    if (this.#count === 0) return
    for (const command of commands) {
      if (isFinished(command)) for (const waiter of this.#waiters.get(command.id) ?? []) waiter.done(command)
    }
  }

  /** Another node has changed something of the device. */
  rung (tenant: string, device: string): void {
    if (this.#count === 0) return
    const name = `${tenant}\0${device}`
    for (const waiters of this.#waiters.values()) for (const waiter of waiters) if (waiter.device === name) waiter.look()
  }

  /** Everybody stops waiting. */
  close (): void {
    for (const waiters of [...this.#waiters.values()]) for (const waiter of [...waiters]) waiter.done(null)
  }

  /**
   * Resolves to the command when it has ended; to null after the time, or at once where too many wait.
   * @param looks.read the command as it is stored
   * @param looks.now it may have ended before the call
   * @param looks.everyMs looks again as often, for what was not told; 0: never
   */
  async wait (tenant: string, device: string, id: string, waitMs: number, { read, now, everyMs }: { readonly read: () => Promise<Command | null>, readonly now: boolean, readonly everyMs: number }): Promise<Command | null> {
    if (this.#count >= this.#max) return null
    return await new Promise<Command | null>(resolve => {
      const look = (): void => {
        read().then(command => { if (command === null || isFinished(command)) waiter.done(command) }, () => {})
      }
      const timer = setTimeout(() => { waiter.done(null) }, waitMs)
      const repeated = everyMs === 0 ? undefined : setInterval(look, everyMs)
      const waiter: Waiter = {
        device: `${tenant}\0${device}`,
        look,
        done: command => {
          clearTimeout(timer)
          clearInterval(repeated)
          const waiters = this.#waiters.get(id)
          if (waiters?.delete(waiter) === true) this.#count--
          if (waiters?.size === 0) this.#waiters.delete(id)
          resolve(command)
        }
      }
      const waiters = this.#waiters.get(id) ?? new Set<Waiter>()
      this.#waiters.set(id, waiters.add(waiter))
      this.#count++
      if (now) look()
    })
  }
}
