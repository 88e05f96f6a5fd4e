/** What the suites on Cassandra share: a keyspace of their own, made by the migrations, and a client that fails where it is told. */
import type { Test } from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { TwinfoldError } from '../../src/core/errors.js'
import { silentLog } from '../../src/core/log.js'
import type { CassandraClient, Row, Statement } from '../../src/store/cluster/cassandra/cassandra-client.js'
import { migrateCassandra } from '../../src/store/cluster/cassandra/migrate.js'
import { openCassandra } from '../../src/store/cluster/cassandra/open-cassandra.js'
import type { CassandraSettings } from '../../workers/protocol.js'
import { dropKeyspace } from '../support/keyspace.js'
import { newTestName, services } from '../support/services.js'

/** Settings of a keyspace that is dropped when the test ends. Only where the service is there (`skipWithout`). */
export function newKeyspace (test: Test): CassandraSettings {
  const { cassandra } = services()
  if (cassandra === null) throw new Error('Cassandra is not there')
  const keyspace = newTestName()
  test.teardown(async () => { await dropKeyspace(keyspace) })
  return { contactPoints: [cassandra.contactPoint], dataCenter: cassandra.dataCenter, keyspace, replication: {}, consistency: 'LOCAL_QUORUM', user: '', password: '', tls: false }
}

/** The same with the schema in it. */
export async function migratedKeyspace (test: Test): Promise<CassandraSettings> {
  const settings = newKeyspace(test)
  await migrateCassandra(settings, { clock: systemClock, log: silentLog })
  return settings
}

/** A client that is closed when the test ends. */
export async function openClient (test: Test, settings: CassandraSettings): Promise<CassandraClient> {
  const client = await openCassandra(settings, { clock: systemClock, log: silentLog })
  test.teardown(async () => { await client.close() })
  return client
}

/** `before`: it never reached Cassandra. `after`: it was done, and the answer was lost. */
export type Failure = 'before' | 'after'

/** Which writes fail, counted over all kinds of writes from 0. It may wait, and have others write meanwhile. */
export type FailurePlan = (write: number, cql: string) => Failure | null | Promise<Failure | null>

/** The process dies at that write, which is its last one or is not done any more. */
export function diesAt (last: number, failure: Failure): FailurePlan {
  return write => write < last ? null : write === last ? failure : 'before'
}

/** A client whose writes fail as planned; one statement at a time, so that a plan by number means the same every time. */
export class FailingCassandra implements CassandraClient {
  readonly keyspace: string
  readonly #inner: CassandraClient
  #plan: FailurePlan = () => null
  /** Writes since the plan was made. */
  writes = 0

  constructor (inner: CassandraClient) {
    this.#inner = inner
    this.keyspace = inner.keyspace
  }

  failAs (plan: FailurePlan): void {
    this.#plan = plan
    this.writes = 0
  }

  async read (cql: string, parameters: readonly unknown[]): Promise<readonly Row[]> {
    return await this.#inner.read(cql, parameters)
  }

  async readSerial (cql: string, parameters: readonly unknown[]): Promise<readonly Row[]> {
    return await this.#inner.readSerial(cql, parameters)
  }

  stream (cql: string, parameters: readonly unknown[], pageRows: number): AsyncIterable<Row> {
    return this.#inner.stream(cql, parameters, pageRows)
  }

  async page (cql: string, parameters: readonly unknown[], pageRows: number, pageState: string | null): ReturnType<CassandraClient['page']> {
    return await this.#inner.page(cql, parameters, pageRows, pageState)
  }

  async write (cql: string, parameters: readonly unknown[]): Promise<void> {
    await this.#failing(cql, async () => { await this.#inner.write(cql, parameters) })
  }

  async writeAll (statements: Iterable<Statement>): Promise<void> {
    for (const { cql, parameters } of statements) await this.write(cql, parameters)
  }

  async writePartition (statements: readonly Statement[]): Promise<void> {
    if (statements.length === 0) return
    await this.#failing(statements[0].cql, async () => { await this.#inner.writePartition(statements) })
  }

  async writeIf (cql: string, parameters: readonly unknown[]): ReturnType<CassandraClient['writeIf']> {
    return await this.#failing(cql, async () => await this.#inner.writeIf(cql, parameters))
  }

  async writePartitionIf (statements: readonly Statement[]): ReturnType<CassandraClient['writePartitionIf']> {
    return await this.#failing(statements[0].cql, async () => await this.#inner.writePartitionIf(statements))
  }

  status (): ReturnType<CassandraClient['status']> {
    return this.#inner.status()
  }

  async close (): Promise<void> {
    await this.#inner.close()
  }

  async #failing<T> (cql: string, action: () => Promise<T>): Promise<T> {
    const failure = await this.#plan(this.writes++, cql)
    if (failure === 'before') throw new TwinfoldError('store_unavailable', 'planned: not sent')
    const result = await action()
    if (failure === 'after') throw new TwinfoldError('store_unavailable', 'planned: the answer was lost')
    return result
  }
}
