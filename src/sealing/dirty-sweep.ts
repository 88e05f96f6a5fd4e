/**
 * Goes round all tenants and this node's shards, slowly, and finds buckets whose time has passed and that have head chunks: those that
 * nobody told the sealer of, because they were packed while they were open, it was restarted, or its schedule was full.
 *
 * Cost: one jump in the index for every open bucket, and a key for every head chunk of past ones. A scan that finds nothing due is followed by a pause of `idleFactor` times the time it took, so a sweep of an idle
 * installation stays near one percent of a core, however many tenants and shards there are; it takes longer instead.
 */
import type { Clock } from '../core/clock.js'
import type { Page } from '../store/registry.js'
import type { Tenant } from '../tenancy/model.js'
import type { DirtyBucket, ScanResult, ScanTask } from '../../workers/seal-protocol.js'

export interface DirtySweepOptions {
  readonly listTenants: (cursor: string | null, limit: number) => Promise<Page<Tenant>>
  readonly scan: (task: ScanTask) => Promise<ScanResult>
  /** Buckets are past that ended by then, µs; asked at every scan. */
  readonly endBefore: () => number
  /** Told of every past bucket that has head chunks; returns whether it is due, or will be soon. */
  readonly found: (tenant: Tenant, bucket: DirtyBucket) => boolean
  readonly clock: Clock
  /** Shortest time between the beginnings of two rounds, ms. */
  readonly roundMs: number
}

const idleFactor = 60
const tenantsPerPage = 100
const bucketsMax = 2000
/** A thread that scans does not seal meanwhile. */
const scanMs = 100

export class DirtySweep {
  readonly #options: DirtySweepOptions
  #tenants: Tenant[] = []
  #cursor: string | null = null
  /** Shards of the first tenant that are still to be looked at. */
  #shards: number[] = []
  #inRound = false
  #notBeforeMs = -Infinity
  #roundStartMs = -Infinity
  readonly stats = { rounds: 0, scans: 0, busyMs: 0 }

  constructor (options: DirtySweepOptions) {
    this.#options = options
  }

  /** Time at which the next step makes sense, monotonic ms. */
  get nextMs (): number { return this.#notBeforeMs }

  /** Begins anew with the next step, at once. */
  restart (): void {
    this.#inRound = false
    this.#notBeforeMs = -Infinity
    this.#roundStartMs = -Infinity
  }

  /** One scan, in the shards given. Returns false where the round is at its end. Rejects when the store does not answer; the step is then made again. */
  async step (shards: readonly number[]): Promise<boolean> {
    const { clock, scan, found, endBefore } = this.#options
    if (!this.#inRound) this.#begin(shards)
    const startMs = clock.monotonicMs()
    const tenant = await this.#nextTenant(shards)
    if (tenant === null) {
      this.#inRound = false
      this.stats.rounds++
      this.#notBeforeMs = Math.max(this.#notBeforeMs, this.#roundStartMs + this.#options.roundMs)
      return false
    }
    const own = new Set(shards)
    const wanted = this.#shards.filter(shard => own.has(shard))
    const result = await scan({ kind: 'scan', tenant: tenant.id, retentionDays: [...new Set(tenant.retention.map(entry => entry.days))], shards: wanted, endBefore: endBefore(), bucketsMax, timeMs: scanMs })
    this.stats.scans++
    this.stats.busyMs += result.cpuMs
    // A shard with more buckets than one answer holds is gone on with in the next round: what is found now is sealed first.
    this.#shards = wanted.slice(result.shardsDone)
    if (this.#shards.length === 0) this.#tenants.shift()
    let due = false
    for (const bucket of result.buckets) if (found(tenant, bucket)) due = true
    const tookMs = clock.monotonicMs() - startMs
    this.#notBeforeMs = due ? -Infinity : clock.monotonicMs() + tookMs * idleFactor
    return true
  }

  #begin (shards: readonly number[]): void {
    this.#inRound = true
    this.#roundStartMs = this.#options.clock.monotonicMs()
    this.#tenants = []
    this.#cursor = ''
    this.#shards = [...shards]
  }

  async #nextTenant (shards: readonly number[]): Promise<Tenant | null> {
    if (this.#tenants.length > 0 && this.#shards.length > 0) return this.#tenants[0]
    this.#shards = [...shards]
    while (this.#tenants.length === 0) {
      if (this.#cursor === null) return null
      const page = await this.#options.listTenants(this.#cursor === '' ? null : this.#cursor, tenantsPerPage)
      this.#tenants = [...page.items]
      this.#cursor = page.next
    }
    return this.#tenants[0]
  }
}
