/** What the tests of the raw store on Cassandra share: a keyspace of their own, and clients that count or fail. */
import { systemClock, type Clock } from '../../src/core/clock.js'
import { TwinfoldError } from '../../src/core/errors.js'
import { silentLog } from '../../src/core/log.js'
import type { CassandraClient, Row, Statement } from '../../src/store/cluster/cassandra/cassandra-client.js'
import { CassandraRawStore } from '../../src/store/cluster/cassandra/cassandra-raw-store.js'
import { migrateCassandra } from '../../src/store/cluster/cassandra/migrate.js'
import { openCassandra } from '../../src/store/cluster/cassandra/open-cassandra.js'
import { dropKeyspace } from '../support/keyspace.js'
import { newTestName, services } from '../support/services.js'

export interface RawKeyspace {
  readonly client: CassandraClient
  store(options?: { clock?: Clock, client?: CassandraClient }): CassandraRawStore
  close(): Promise<void>
}

/** Call only where services().cassandra is there. */
export async function openRawKeyspace (): Promise<RawKeyspace> {
  const { cassandra } = services()
  if (cassandra === null) throw new Error('Cassandra does not run')
  const keyspace = newTestName()
  const settings = {
    contactPoints: [cassandra.contactPoint], dataCenter: cassandra.dataCenter, keyspace, replication: {}, consistency: 'LOCAL_QUORUM', user: '', password: '', tls: false
  } as const
  const base = { clock: systemClock, log: silentLog }
  await migrateCassandra(settings, base)
  const client = await openCassandra(settings, base)
  return {
    client,
    store: ({ clock = systemClock, client: other = client } = {}) => new CassandraRawStore(other, { clock, outbox: true }),
    async close () {
      await client.close()
      await dropKeyspace(keyspace)
    }
  }
}

/** Statements pass through one after the other and are counted; from the given write on, none is carried out. */
export class WatchedClient implements CassandraClient {
  readonly #client: CassandraClient
  readonly #failAtWrite: number
  writes = 0
  reads = 0

  constructor (client: CassandraClient, failAtWrite = Infinity) {
    this.#client = client
    this.#failAtWrite = failAtWrite
  }

  get keyspace (): string { return this.#client.keyspace }

  #countWrite (): void {
    if (this.writes >= this.#failAtWrite) throw new TwinfoldError('store_unavailable', 'the node died here')
    this.writes++
  }

  async read (cql: string, parameters: readonly unknown[]): Promise<readonly Row[]> {
    this.reads++
    return await this.#client.read(cql, parameters)
  }

  async readSerial (cql: string, parameters: readonly unknown[]): Promise<readonly Row[]> {
    this.reads++
    return await this.#client.readSerial(cql, parameters)
  }

  stream (cql: string, parameters: readonly unknown[], pageRows: number): AsyncIterable<Row> {
    this.reads++
    return this.#client.stream(cql, parameters, pageRows)
  }

  async page (...args: Parameters<CassandraClient['page']>): ReturnType<CassandraClient['page']> {
    this.reads++
    return await this.#client.page(...args)
  }

  async write (cql: string, parameters: readonly unknown[]): Promise<void> {
    this.#countWrite()
    await this.#client.write(cql, parameters)
  }

  async writeAll (statements: Iterable<Statement>): Promise<void> {
    for (const { cql, parameters } of statements) await this.write(cql, parameters)
  }

  async writePartition (statements: readonly Statement[]): Promise<void> {
    this.#countWrite()
    await this.#client.writePartition(statements)
  }

  async writeIf (cql: string, parameters: readonly unknown[]): ReturnType<CassandraClient['writeIf']> {
    this.#countWrite()
    return await this.#client.writeIf(cql, parameters)
  }

  async writePartitionIf (statements: readonly Statement[]): ReturnType<CassandraClient['writePartitionIf']> {
    this.#countWrite()
    return await this.#client.writePartitionIf(statements)
  }

  status (): ReturnType<CassandraClient['status']> { return this.#client.status() }

  async close (): Promise<void> {}
}
