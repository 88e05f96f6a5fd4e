/**
 * Brings a keyspace to this version's schema: the files of schemas/cassandra in order of their numbers, under a lock, so that
 * several nodes may start at once. What was applied is kept with a checksum. Nothing to do is found out by one read.
 *
 * Every statement says IF NOT EXISTS: a migrator that died half-way is followed by one that runs the same file again.
 */
import { createHash, randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'
import { types, type Client, type Host } from 'cassandra-driver'
import type { CassandraSettings } from '../../../../workers/protocol.js'
import type { Clock } from '../../../core/clock.js'
import { TwinfoldError } from '../../../core/errors.js'
import type { Log } from '../../../core/log.js'
import { pendingMigrations, readMigrations, schemaFolder, type AppliedMigration, type MigrateResult, type MigrationFile } from '../../migration-files.js'
import { CassandraFault, translate } from './cassandra-errors.js'
import { connect, consistencyOf } from './connect.js'
import { SchemaLock } from './schema-lock.js'

export interface MigrateCassandraOptions {
  readonly clock: Clock
  readonly log: Log
  /** Folder of the files; the project's unless given. */
  readonly folder?: string
  /** How long opening is tried while nothing answers, milliseconds. */
  readonly openWithinMs?: number
  /** After which a dead migrator's lock is free, seconds. Longer than any one statement takes. */
  readonly leaseSeconds?: number
  /** How long another migrator is waited for, milliseconds. */
  readonly lockWithinMs?: number
}

/** Schema statements wait for all nodes; Cassandra itself allows itself longer than for reads. */
const requestTimeoutMs = 30_000
const statementTriesMax = 4
const agreementMsMax = 30_000
const agreementPollMs = 50

/**
 * @throws TwinfoldError `store_unavailable` naming what could not be reached or who holds the lock, `format_newer` where the schema
 * is a newer server's, `internal` where an applied file was changed or a statement is wrong.
 */
export async function migrateCassandra (settings: CassandraSettings, options: MigrateCassandraOptions): Promise<MigrateResult> {
  const { clock, log, folder = schemaFolder('cassandra'), openWithinMs = 60_000 } = options
  const files = readMigrations(folder, 'cql')
  const client = await connect(settings, { clock, log, keyspace: null, openWithinMs, requestTimeoutMs, forSchema: true })
  try {
    return await new CassandraMigrator(client, settings, options).migrate(files)
  } catch (error) {
    throw translate(error)
  } finally {
    await client.shutdown()
  }
}

class CassandraMigrator {
  readonly #client: Client
  readonly #settings: CassandraSettings
  readonly #options: MigrateCassandraOptions
  readonly #keyspace: string

  constructor (client: Client, settings: CassandraSettings, options: MigrateCassandraOptions) {
    this.#client = client
    this.#settings = settings
    this.#options = options
    this.#keyspace = settings.keyspace
  }

  async migrate (files: readonly MigrationFile[]): Promise<MigrateResult> {
    // The common case takes no lock: a data centre that is cut off from the others can start on a schema that is there.
    if (await this.#isUpToDate(files)) {
      return { applied: [] }
    }
    await this.#makeKeyspaceAndLock()
    const { clock, leaseSeconds = 60, lockWithinMs = 300_000 } = this.#options
    const lock = new SchemaLock(this.#client, {
      keyspace: this.#keyspace, holder: `${hostname()} ${process.pid} ${randomUUID()}`, leaseSeconds, waitMsMax: lockWithinMs, monotonicMs: () => clock.monotonicMs()
    })
    await lock.take()
    try {
      return await this.#applyPending(files, lock)
    } finally {
      await lock.release()
    }
  }

  async #isUpToDate (files: readonly MigrationFile[]): Promise<boolean> {
    if (!await this.#tableExists('schema_migrations')) return false
    try {
      return pendingMigrations(files, await this.#applied(this.#settings.consistency), 'Cassandra').length === 0
    } catch (error) {
      // Another node is just making the table: it stands in the schema before every coordinator can read it.
      if (/does not exist|unconfigured table|Unknown CF/i.test((error as Error).message)) return false
      throw error
    }
  }

  async #applyPending (files: readonly MigrationFile[], lock: SchemaLock): Promise<MigrateResult> {
    const { log, clock } = this.#options
    await this.#change(`CREATE TABLE IF NOT EXISTS ${this.#keyspace}.schema_migrations (part int, version int, name text, checksum text, applied_us bigint, PRIMARY KEY ((part), version))`, lock)
    const pending = pendingMigrations(files, await this.#applied('QUORUM'), 'Cassandra')
    await this.#inKeyspace()
    for (const file of pending) {
      for (const statement of file.statements) await this.#change(statement, lock)
      await lock.renew()
      await this.#settled(`INSERT INTO ${this.#keyspace}.schema_migrations (part, version, name, checksum, applied_us) VALUES (0, ?, ?, ?, ?)`, [file.version, file.name, file.checksum, clock.nowUs()])
      log.info({ keyspace: this.#keyspace, file: file.name }, 'schema migration applied')
    }
    return { applied: pending.map(file => file.name) }
  }

  /** Before there is a lock, several migrators do this side by side; all of it comes to the same. */
  async #makeKeyspaceAndLock (): Promise<void> {
    const { replication, dataCenter } = this.#settings
    const replicas = Object.entries(Object.keys(replication).length === 0 ? { [dataCenter]: 1 } : replication).map(([name, count]) => `'${name}': ${count}`).join(', ')
    await this.#settled(`CREATE KEYSPACE IF NOT EXISTS ${this.#keyspace} WITH replication = {'class': 'NetworkTopologyStrategy', ${replicas}} AND durable_writes = true`)
    await this.#agreement()
    // With an id of its own for each keyspace: two nodes that make one table at once would give it two random ids, which never agree.
    await this.#settled(`CREATE TABLE IF NOT EXISTS ${this.#keyspace}.schema_lock (name text PRIMARY KEY, holder text) WITH id = ${tableId(this.#keyspace, 'schema_lock')}`)
    await this.#agreement()
  }

  async #tableExists (table: string): Promise<boolean> {
    const result = await this.#client.execute('SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?', [this.#keyspace, table], { consistency: types.consistencies.localOne, isIdempotent: true })
    return result.rowLength > 0
  }

  async #applied (consistency: CassandraSettings['consistency']): Promise<AppliedMigration[]> {
    const result = await this.#client.execute(`SELECT version, name, checksum FROM ${this.#keyspace}.schema_migrations WHERE part = 0`, [], { prepare: false, isIdempotent: true, consistency: consistencyOf[consistency] })
    return result.rows.map(row => ({ version: row.version as number, name: row.name as string, checksum: row.checksum as string }))
  }

  /** The files name no keyspace. */
  async #inKeyspace (): Promise<void> {
    await this.#settled(`USE ${this.#keyspace}`)
  }

  async #change (statement: string, lock: SchemaLock): Promise<void> {
    await lock.renew()
    await this.#settled(statement)
    // The next statement may go to another node, which has to know of this one.
    await this.#agreement()
  }

  /** Runs a statement that may be repeated until it was answered, a few times at most. */
  async #settled (statement: string, parameters: readonly unknown[] = []): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        await this.#client.execute(statement, parameters as unknown[], { prepare: parameters.length > 0, isIdempotent: true, consistency: types.consistencies.quorum })
        return
      } catch (error) {
        const translated = translate(error)
        if (!(translated instanceof CassandraFault) || tries >= statementTriesMax) throw new TwinfoldError(translated.code, `${translated.message} (statement: ${statement.slice(0, 200)})`, { cause: error })
        await pause(500 * tries)
      }
    }
  }

  /** Waits until all living nodes know one schema. @throws TwinfoldError `store_unavailable` when they do not in half a minute. */
  async #agreement (): Promise<void> {
    const { clock } = this.#options
    const deadlineMs = clock.monotonicMs() + agreementMsMax
    while (!await this.#nodesAgree()) {
      if (clock.monotonicMs() > deadlineMs) throw new TwinfoldError('store_unavailable', `Cassandra's nodes have not agreed on one schema in ${agreementMsMax} ms`)
      await pause(agreementPollMs)
    }
  }

  /**
   * Every node of the data centre is asked itself; of the others one of them tells, as it hears of them (about a second later).
   * Dead ones are passed over, the driver's own check would wait for them: they catch up when they come back.
   */
  async #nodesAgree (): Promise<boolean> {
    const { dataCenter } = this.#settings
    const hosts = this.#client.hosts
    const near = hosts.values().filter(host => host.isUp() && host.datacenter === dataCenter)
    if (near.length === 0) return false
    const ask = async (host: Host, cql: string): Promise<readonly types.Row[]> =>
      (await this.#client.execute(cql, [], { host, prepare: false, isIdempotent: true, consistency: types.consistencies.localOne })).rows
    try {
      const own = await Promise.all(near.map(async host => await ask(host, 'SELECT schema_version FROM system.local')))
      const heard = await ask(near[0], 'SELECT data_center, native_address, native_port, schema_version FROM system.peers_v2')
      const far = heard.filter(({ data_center: place, native_address: address, native_port: port }) => place !== dataCenter && hosts.get(`${String(address)}:${String(port)}`)?.isUp() !== false)
      return new Set([...own.flat(), ...far].map(row => String(row.schema_version))).size === 1
    } catch {
      // A node went away just now; the next round asks those that are left.
      return false
    }
  }
}

/** A UUID that depends on the names alone, in the form of version 5 (RFC 9562, 5.5). */
function tableId (keyspace: string, table: string): string {
  const bytes = createHash('sha256').update(`twinfold ${keyspace}.${table}`).digest().subarray(0, 16)
  bytes[6] = (bytes[6] & 0x0f) | 0x50
  bytes[8] = (bytes[8] & 0x3f) | 0x80
  const hex = bytes.toString('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}
