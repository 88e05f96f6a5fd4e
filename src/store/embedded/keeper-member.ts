/** The side of the keeper (keeper.ts) that a store beside the owner's has: it asks the owner. */
import { randomUUID } from 'node:crypto'
import { BroadcastChannel, threadId } from 'node:worker_threads'
import { TwinfoldError } from '../../core/errors.js'
import { channelName, memberId, type KeeperMessage } from './keeper-messages.js'
import { errorOf, ownerWaitMs, type Keeper } from './keeper.js'

interface Call {
  readonly resolve: (held: boolean) => void
  readonly reject: (error: Error) => void
  readonly timer: NodeJS.Timeout
}

export class KeeperMember implements Keeper {
  readonly #channel: BroadcastChannel
  readonly #self = memberId(threadId, randomUUID())
  /** Bounded by the databases that the thread opens at once. */
  readonly #calls = new Map<number, Call>()
  readonly #held = new Set<string>()
  #lastCall = 0

  onRetire: (path: string) => void = () => {}
  onSuspected: (path: string) => void = () => {}

  constructor (options: { directory: string }) {
    this.#channel = new BroadcastChannel(channelName(options.directory))
    this.#channel.onmessage = event => { this.#receive((event as { data: KeeperMessage }).data) }
    this.#channel.unref()
  }

  async hold (path: string, create: boolean): Promise<boolean> {
    const held = await this.#call(call => ({ kind: 'hold', member: this.#self, call, path, create }))
    if (held) this.#held.add(path)
    return held
  }

  release (path: string): void {
    this.#held.delete(path)
    this.#channel.postMessage({ kind: 'release', member: this.#self, path } satisfies KeeperMessage)
  }

  suspect (path: string): void {
    this.#channel.postMessage({ kind: 'suspect', member: this.#self, path } satisfies KeeperMessage)
  }

  async repair (path: string): Promise<void> {
    await this.#call(call => ({ kind: 'repair', member: this.#self, call, path }))
  }

  async close (): Promise<void> {
    for (const path of [...this.#held]) this.release(path)
    this.#channel.close()
    for (const call of this.#calls.values()) {
      clearTimeout(call.timer)
      call.reject(new TwinfoldError('not_ready', 'the store is closed'))
    }
    this.#calls.clear()
  }

  async #call (message: (call: number) => KeeperMessage): Promise<boolean> {
    const number = ++this.#lastCall
    return await new Promise<boolean>((resolve, reject) => {
      // The timer also keeps the thread alive until the answer is here; the channel alone does not.
      const timer = setTimeout(() => {
        this.#calls.delete(number)
        reject(new TwinfoldError('store_unavailable', 'the thread that owns the store does not answer', { retryAfterMs: 1000 }))
      }, ownerWaitMs)
      this.#calls.set(number, { resolve, reject, timer })
      this.#channel.postMessage(message(number))
    })
  }

  #receive (message: KeeperMessage): void {
    if (message.kind === 'retire') this.onRetire(message.path)
    else if (message.kind === 'suspected') this.onSuspected(message.path)
    else if ((message.kind === 'answer' || message.kind === 'failed') && message.member === this.#self) {
      const call = this.#calls.get(message.call)
      // The answer to a call that was given up. What is held by it stays so until the thread holds it again or ends:
      // letting it go here could cross a newer hold of the same database.
      if (call === undefined) return
      this.#calls.delete(message.call)
      clearTimeout(call.timer)
      if (message.kind === 'answer') call.resolve(message.held)
      else call.reject(errorOf(message))
    }
  }
}
