/**
 * The Cassandra client of one thread: the driver behind a circuit breaker, with one concurrency limit for writes and one for
 * reads, so that neither kind waits behind the other. What its methods promise stands in cassandra-client.ts.
 */
import { types, type Client, type QueryOptions } from 'cassandra-driver'
import type { CassandraSettings } from '../../../../workers/protocol.js'
import type { Clock } from '../../../core/clock.js'
import type { Log } from '../../../core/log.js'
import type { DependencyStatus } from '../../dependency-status.js'
import { Dependency } from '../../dependency.js'
import type { CassandraClient, Row, Statement } from './cassandra-client.js'
import { CassandraFault, translate } from './cassandra-errors.js'
import { ConcurrencyGate, type Outcome } from './concurrency-limit.js'
import { connect } from './connect.js'
import { RingKeeper } from './ring-keeper.js'
import { plainRow, plainRows } from './rows.js'

export interface OpenCassandraOptions {
  readonly clock: Clock
  readonly log: Log
  /** How long opening is tried while nothing answers, milliseconds. */
  readonly openWithinMs?: number
  /** One try of one statement on one node, milliseconds; there are three at most. */
  readonly requestTimeoutMs?: number
  /** Pause between two probes of the circuit breaker, milliseconds. */
  readonly probeMs?: number
  /** Told of every answer: which node coordinated it. For tests and for tracing; must not throw. */
  readonly onAnswer?: (host: string, cql: string) => void
}

const concurrency = { min: 8, max: 512, initial: 64 }
const waitingMax = 10_000
const waitMsMax = 10_000
/** A queue whose head has waited longer makes the dependency `slow`. */
const slowWaitMs = 1000
const slowForMs = 10_000
/** Partitions that probes go round: an empty read of each asks another set of replicas. */
const probePartitions = 1024
const probeTimeoutMsMax = 2000

const idempotent: QueryOptions = { isIdempotent: true }

class DriverCassandraClient implements CassandraClient {
  readonly keyspace: string
  readonly #driver: Client
  readonly #ring: RingKeeper
  readonly #clock: Clock
  readonly #dependency: Dependency
  readonly #writes: ConcurrencyGate
  readonly #reads: ConcurrencyGate
  readonly #onAnswer: ((host: string, cql: string) => void) | undefined
  #probes = 0
  #slowSinceMs: number | null = null

  constructor (driver: Client, settings: CassandraSettings, { clock, log, onAnswer, probeMs = 1000, requestTimeoutMs = requestTimeoutMsDefault }: OpenCassandraOptions) {
    this.keyspace = settings.keyspace
    this.#driver = driver
    this.#ring = new RingKeeper(driver, log)
    this.#clock = clock
    this.#onAnswer = onAnswer
    const gate = { ...concurrency, waitingMax, waitMsMax, monotonicMs: () => clock.monotonicMs() }
    this.#writes = new ConcurrencyGate({ ...gate, name: 'Cassandra (writes)' })
    this.#reads = new ConcurrencyGate({ ...gate, name: 'Cassandra (reads)' })
    this.#dependency = new Dependency({
      name: 'Cassandra',
      clock,
      log,
      code: 'store_unavailable',
      retryAfterMs: probeMs,
      // The gates keep below this; it is the wall behind them.
      runningMax: 2 * concurrency.max,
      waitingMax: 0,
      isFault: error => error instanceof CassandraFault && error.general,
      probe: async () => { await this.#probe(Math.min(probeTimeoutMsMax, requestTimeoutMs)) }
    })
  }

  async read (cql: string, parameters: readonly unknown[]): Promise<readonly Row[]> {
    return await this.#readAll(cql, parameters, idempotent)
  }

  async readSerial (cql: string, parameters: readonly unknown[]): Promise<readonly Row[]> {
    return await this.#readAll(cql, parameters, { isIdempotent: true, consistency: types.consistencies.localSerial })
  }

  async * stream (cql: string, parameters: readonly unknown[], pageRows: number): AsyncIterable<Row> {
    let pageState: string | null = null
    do {
      const page: { readonly rows: readonly Row[], readonly pageState: string | null } = await this.page(cql, parameters, pageRows, pageState)
      yield * page.rows
      pageState = page.pageState
    } while (pageState !== null)
  }

  async page (cql: string, parameters: readonly unknown[], pageRows: number, pageState: string | null): Promise<{ readonly rows: readonly Row[], readonly pageState: string | null }> {
    const result = await this.#execute(this.#reads, cql, parameters, { isIdempotent: true, fetchSize: pageRows, ...(pageState === null ? {} : { pageState }) })
    return { rows: plainRows(result), pageState: result.pageState ?? null }
  }

  async write (cql: string, parameters: readonly unknown[]): Promise<void> {
    await this.#execute(this.#writes, cql, parameters, idempotent)
  }

  async writeAll (statements: Iterable<Statement>): Promise<void> {
    const running = new Set<Promise<void>>()
    let failure: { readonly error: unknown } | null = null
    for (const { cql, parameters } of statements) {
      const place = await this.#writes.acquire().catch((error: unknown) => { failure ??= { error } })
      if (place === undefined || failure !== null) {
        place?.release('not tried')
        break
      }
      const call = this.#tried(place, async () => await this.#sent(cql, parameters, idempotent))
        .then(() => {}, (error: unknown) => { failure ??= { error } })
        .finally(() => { running.delete(call) })
      running.add(call)
    }
    await Promise.all(running)
    if (failure !== null) throw (failure as { readonly error: unknown }).error
  }

  async writePartition (statements: readonly Statement[]): Promise<void> {
    if (statements.length === 0) return
    const queries = statements.map(({ cql, parameters }) => ({ query: cql, params: parameters as unknown[] }))
    const place = await this.#writes.acquire()
    await this.#tried(place, async () => {
      const result = await this.#driver.batch(queries, { prepare: true, logged: false, isIdempotent: true })
      this.#onAnswer?.(result.info.queriedHost, statements[0].cql)
      return result
    })
  }

  async writeIf (cql: string, parameters: readonly unknown[]): Promise<{ readonly applied: boolean, readonly row: Row | null }> {
    return outcomeOf(await this.#execute(this.#writes, cql, parameters, { isIdempotent: false }))
  }

  async writePartitionIf (statements: readonly Statement[]): Promise<{ readonly applied: boolean, readonly row: Row | null }> {
    const queries = statements.map(({ cql, parameters }) => ({ query: cql, params: parameters as unknown[] }))
    const place = await this.#writes.acquire()
    return outcomeOf(await this.#tried(place, async () => {
      const result = await this.#driver.batch(queries, { prepare: true, logged: false, isIdempotent: false, serialConsistency: types.consistencies.localSerial })
      this.#onAnswer?.(result.info.queriedHost, statements[0].cql)
      return result
    }))
  }

  status (): DependencyStatus {
    const base = this.#dependency.status()
    const now = this.#clock.monotonicMs()
    const gates = [this.#writes, this.#reads]
    const slow = base.state === 'slow' || gates.some(gate => gate.waitedMs > slowWaitMs || now - gate.rejectedAtMs < slowForMs)
    if (!slow || base.state === 'down') this.#slowSinceMs = null
    else this.#slowSinceMs ??= now
    const rejected = base.rejected + this.#writes.rejected + this.#reads.rejected
    const counts = { rejected, running: base.running, waiting: this.#writes.waiting + this.#reads.waiting }
    if (this.#slowSinceMs === null) return { ...base, ...counts }
    const reason = `answers more slowly than it is asked: ${counts.running} statements run, ${counts.waiting} wait`
    return { ...base, ...counts, state: 'slow', sinceMs: this.#slowSinceMs, reason }
  }

  async close (): Promise<void> {
    this.#dependency.close()
    await this.#driver.shutdown()
    await this.#ring.close()
  }

  async #readAll (cql: string, parameters: readonly unknown[], options: QueryOptions): Promise<readonly Row[]> {
    const result = await this.#execute(this.#reads, cql, parameters, options)
    let rows = plainRows(result)
    for (let pageState = result.pageState; pageState !== null && pageState !== undefined;) {
      const next = await this.#execute(this.#reads, cql, parameters, { ...options, pageState })
      rows = rows.concat(plainRows(next))
      pageState = next.pageState
    }
    return rows
  }

  async #execute (gate: ConcurrencyGate, cql: string, parameters: readonly unknown[], options: QueryOptions): Promise<types.ResultSet> {
    const place = await gate.acquire()
    return await this.#tried(place, async () => await this.#sent(cql, parameters, options))
  }

  async #sent (cql: string, parameters: readonly unknown[], options: QueryOptions): Promise<types.ResultSet> {
    const result = await this.#driver.execute(cql, parameters as unknown[], options)
    this.#onAnswer?.(result.info.queriedHost, cql)
    return result
  }

  /** Runs a call in its place of the limit, behind the breaker; its latency teaches the limit. */
  async #tried (place: { release(outcome: Outcome): void }, send: () => Promise<types.ResultSet>): Promise<types.ResultSet> {
    let outcome: Outcome = 'not tried'
    try {
      return await this.#dependency.run(async () => {
        try {
          const result = await send()
          outcome = 'answered'
          return result
        } catch (error) {
          const translated = translate(error)
          if (translated instanceof CassandraFault && translated.late) outcome = 'late'
          throw translated
        }
      })
    } finally {
      place.release(outcome)
    }
  }

  /** An empty read at the configured consistency: it fails where the replicas asked are too few, which a read of system tables would not show. */
  async #probe (readTimeout: number): Promise<void> {
    const part = this.#probes++ % probePartitions
    try {
      await this.#driver.execute('SELECT part FROM probe WHERE part = ?', [part], { isIdempotent: false, readTimeout })
    } catch (error) {
      throw translate(error)
    }
  }
}

/** Of a conditional statement. */
function outcomeOf (result: types.ResultSet): { readonly applied: boolean, readonly row: Row | null } {
  const applied = result.wasApplied()
  const first = applied ? null : result.first() as types.Row | null
  if (first === null) return { applied, row: null }
  const { '[applied]': _applied, ...row } = plainRow(first)
  return { applied, row: Object.keys(row).length === 0 ? null : row }
}

/** Above the five seconds after which Cassandra itself gives a read up, saying how many replicas answered. */
const requestTimeoutMsDefault = 6000
const openWithinMsDefault = 60_000

/** @throws TwinfoldError `store_unavailable` naming the contact points, when nothing answered in `openWithinMs`. */
export async function openCassandra (settings: CassandraSettings, options: OpenCassandraOptions): Promise<CassandraClient> {
  const { clock, log, openWithinMs = openWithinMsDefault, requestTimeoutMs = requestTimeoutMsDefault } = options
  const driver = await connect(settings, { clock, log, keyspace: settings.keyspace, openWithinMs, requestTimeoutMs })
  return new DriverCassandraClient(driver, settings, options)
}
