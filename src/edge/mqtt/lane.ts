/**
 * The order of what one connection asks of the broker. Publishes run side by side, because the broker keeps their
 * order as long as each takes the same steps; a retained publish, a QoS 2 exchange, a SUBSCRIBE or a DISCONNECT takes
 * other steps, so it waits for all before it and everything behind it waits for it. The queue is bounded by the
 * connection's in-flight limits: its socket is not read while too much waits.
 */
export interface LaneJob {
  /** Runs alone. */
  readonly exclusive: boolean
  /** Starts the job, which reports its end with `lane.finished(job)`, at once or later, exactly once. */
  start(): void
}

export class Lane {
  readonly #waiting: LaneJob[] = []
  #running = 0
  #exclusive = false
  #advancing = false

  push (job: LaneJob): void {
    if (this.#waiting.length === 0 && this.#admits(job)) this.#start(job)
    else this.#waiting.push(job)
  }

  finished (job: LaneJob): void {
    this.#running--
    if (job.exclusive) this.#exclusive = false
    // A job that ends while it starts comes back here; the loop that started it goes on, instead of a deeper one.
    if (this.#advancing) return
    this.#advancing = true
    while (this.#waiting.length > 0 && this.#admits(this.#waiting[0])) this.#start(this.#waiting.shift() as LaneJob)
    this.#advancing = false
  }

  #admits (job: LaneJob): boolean {
    return !this.#exclusive && (!job.exclusive || this.#running === 0)
  }

  #start (job: LaneJob): void {
    this.#running++
    this.#exclusive = job.exclusive
    job.start()
  }

  get idle (): boolean { return this.#running === 0 && this.#waiting.length === 0 }
}
