/**
 * Stands between the packer and its threads (as live/live-tap.ts): a slice counts as packed only when its edges are durably taken, so a
 * crash in between packs it again and nothing that should raise an alarm is lost. Slices that were packed side by side are taken in the
 * order of the journal: a point that is evaluated after a later one counts for nothing.
 *
 * It also knows up to which accept stamp everything has been evaluated: silence is judged by that, not by the clock, so that a store that
 * does not answer for an hour makes no device look silent.
 */
import type { Clock } from '../core/clock.js'
import type { HotResult, HotTask, PackResult, PackTask } from '../../workers/protocol.js'
import type { MetricViolation, RuleEdges } from '../../workers/watch-protocol.js'

export interface PackingPool {
  readonly threads: number
  pack (task: PackTask): Promise<PackResult>
  packHot (task: HotTask): Promise<HotResult>
}

export interface AlarmTapOptions {
  readonly clock: Clock
  /** Resolves when it is durable; what it rejects with fails the slice, which is packed again. */
  readonly take: (edges: readonly RuleEdges[], stampUs: number) => Promise<void>
  readonly violations: (violations: readonly MetricViolation[]) => void
}

/** A slice waits so long for those before it: one that cannot be packed at all must not stop the others. */
const turnMsMax = 5000
/** What was accepted longer ago than this is in a slice. */
const unslicedUs = 2e6

export class AlarmTap {
  readonly #options: AlarmTapOptions
  /** Slices that were given out and are not done, by position. */
  readonly #unfinished = new Set<number>()
  #waiters: (() => void)[] = []
  #doneStamp = 0
  readonly stats = { slices: 0, edges: 0, edgesDropped: 0, outOfOrder: 0 }

  constructor (options: AlarmTapOptions) { this.#options = options }

  on (pool: PackingPool): PackingPool {
    return {
      threads: pool.threads,
      packHot: async task => await pool.packHot(task),
      pack: async task => {
        // It stays there while it fails: those after it wait for it.
        this.#unfinished.add(task.mark.to)
        const result = await pool.pack(task)
        if (result.watch !== undefined) await this.#taken(task, result.watch)
        this.#done(task.mark)
        return result
      }
    }
  }

  /** Everything that was accepted before, µs, has been evaluated. */
  evaluatedTo (): number {
    return this.#unfinished.size === 0 ? this.#options.clock.nowUs() - unslicedUs : this.#doneStamp
  }

  async #taken ({ mark }: PackTask, watch: NonNullable<PackResult['watch']>): Promise<void> {
    if (watch.edges.length > 0) {
      await this.#turn(mark.to)
      await this.#options.take(watch.edges, mark.stamp)
      this.stats.slices++
      for (const { ts } of watch.edges) this.stats.edges += ts.length
      this.stats.edgesDropped += watch.edgesDropped
    }
    if (watch.violations.length > 0) this.#options.violations(watch.violations)
  }

  #isFirst (position: number): boolean {
    for (const other of this.#unfinished) if (other < position) return false
    return true
  }

  async #turn (position: number): Promise<void> {
    const deadlineMs = this.#options.clock.monotonicMs() + turnMsMax
    while (!this.#isFirst(position)) {
      const leftMs = deadlineMs - this.#options.clock.monotonicMs()
      if (leftMs <= 0) {
        this.stats.outOfOrder++
        return
      }
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, leftMs)
        this.#waiters.push(() => { clearTimeout(timer); resolve() })
      })
    }
  }

  #done ({ to, stamp }: PackTask['mark']): void {
    this.#unfinished.delete(to)
    if (this.#isFirst(to)) this.#doneStamp = Math.max(this.#doneStamp, stamp)
    const waiters = this.#waiters
    this.#waiters = []
    for (const wake of waiters) wake()
  }
}
