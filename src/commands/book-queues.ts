/**
 * Operations that wait for the book of one device: one commit at a time, which takes what has gathered meanwhile, in order. An operation
 * that is in no hurry (`waitMs`) waits for others to share their commit, and goes before them: it is news of what was committed earlier.
 * What is shared is a conditional write and an append to the event log.
 */
import type { BookDraft } from './book.js'

export interface BookOperation<R> {
  /** Commands that may be finished: they are read before. */
  readonly ids?: readonly string[]
  /** Keys of requests that it looks at, and the commands that came of them. */
  readonly keys?: readonly string[]
  /** On stable storage before it resolves (power loss), not only safe from SIGKILL. */
  readonly sync: boolean
  /** Comes from the journal, which gives it again after a crash: no intent is noted, for what shares its commit neither. */
  readonly journaled?: boolean
  /** May wait as long for a commit that is made anyway, ms. Default 0: it goes at once. */
  readonly waitMs?: number
  /** Pure; may run several times, each on a fresh draft. Throwing TwinfoldError refuses this operation alone: it must not have changed the draft. */
  run (draft: BookDraft): R
}

export type Settled = { readonly value: unknown } | { readonly error: unknown }

/** Makes one commit of the operations. Rejects where it is not known whether it was made. */
export type CommitBook = (tenant: string, device: string, operations: readonly BookOperation<unknown>[]) => Promise<readonly Settled[]>

interface Waiting { readonly operation: BookOperation<unknown>, readonly resolve: (value: unknown) => void, readonly reject: (error: unknown) => void }

interface Queue {
  readonly tenant: string
  readonly device: string
  readonly waiting: Waiting[]
  /** In no hurry. */
  readonly patient: Waiting[]
  timer: NodeJS.Timeout | undefined
  /** null: nothing is under way. */
  work: Promise<void> | null
}

/** Operations in one commit: its size stays bounded. */
const operationsPerCommitMax = 32

export class BookQueues {
  readonly #commit: CommitBook
  readonly #queues = new Map<string, Queue>()
  #closed = false

  constructor (commit: CommitBook) {
    this.#commit = commit
  }

  /** Rejects with what the operation throws, and where its commit does. */
  async add<R> (tenant: string, device: string, operation: BookOperation<R>): Promise<R> {
    const id = `${tenant}\0${device}`
    return await new Promise<R>((resolve, reject) => {
      const queue = this.#queues.get(id) ?? { tenant, device, waiting: [], patient: [], timer: undefined, work: null }
      this.#queues.set(id, queue)
      const entry: Waiting = { operation, resolve: resolve as (value: unknown) => void, reject }
      const { waitMs = 0 } = operation
      if (waitMs > 0 && !this.#closed) {
        queue.patient.push(entry)
        queue.timer ??= setTimeout(() => { this.#hurry(queue) }, waitMs)
        return
      }
      queue.waiting.push(entry)
      this.#start(queue)
    })
  }

  /** What waits for others to share their commit goes now. */
  hurry (tenant: string, device: string): void {
    const queue = this.#queues.get(`${tenant}\0${device}`)
    if (queue !== undefined) this.#hurry(queue)
  }

  /** Nothing waits for others any longer; resolves when what waits now is committed or has failed. */
  async close (): Promise<void> {
    this.#closed = true
    for (const queue of this.#queues.values()) this.#hurry(queue)
    await Promise.all([...this.#queues.values()].map(async ({ work }) => { await work }))
  }

  #hurry (queue: Queue): void {
    this.#takeAlong(queue)
    this.#start(queue)
  }

  #takeAlong (queue: Queue): void {
    clearTimeout(queue.timer)
    queue.timer = undefined
    queue.waiting.unshift(...queue.patient.splice(0))
  }

  #start (queue: Queue): void {
    if (queue.work === null && queue.waiting.length > 0) queue.work = this.#work(queue)
  }

  /** Never rejects. */
  async #work (queue: Queue): Promise<void> {
    const { tenant, device, waiting, patient } = queue
    while (waiting.length > 0) {
      this.#takeAlong(queue)
      const batch = waiting.splice(0, operationsPerCommitMax)
      try {
        const settled = await this.#commit(tenant, device, batch.map(({ operation }) => operation))
        for (const [i, { resolve, reject }] of batch.entries()) {
          const result = settled[i]
          if ('error' in result) reject(result.error)
          else resolve(result.value)
        }
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
    }
    queue.work = null
    if (patient.length === 0) this.#queues.delete(`${tenant}\0${device}`)
  }
}
