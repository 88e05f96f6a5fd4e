/**
 * SQL of tenants: judged by the guard, then run by a process that holds that tenant's snapshot alone. Bounded: one statement at a time
 * for a tenant, so many processes at once (each is some 500 MB), and each ends when its data is old or nobody asks.
 */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../../core/clock.js'
import { TwinfoldError } from '../../core/errors.js'
import { usPerMs } from '../../core/reading.js'
import type { SqlLimits, SqlReply } from '../../../workers/tenant-sql-protocol.js'
import type { SqlAnswer, SqlRequest, TenantSql } from '../fleet-store.js'
import type { ClickHouseConnection } from './clickhouse-connection.js'
import { guardSql } from './sql-guard.js'
import { SqlProcess } from './sql-process.js'
import { SqlSnapshot } from './sql-snapshot.js'

export const sqlLimits: SqlLimits = { seconds: 30, memoryBytes: 1024 ** 3, rows: 100_000, bytes: 32 * 1024 ** 2 }
/** Rows of a table in a snapshot. */
export const sqlSnapshotRowsMax = 50_000_000

export interface SnapshotSqlOptions {
  readonly connection: ClickHouseConnection
  /** For the snapshots; emptied at start and close. */
  readonly directory: string
  readonly clock: Clock
  readonly limits?: SqlLimits
  /** A snapshot older than this is made anew before it is asked. Default 60,000. */
  readonly freshMs?: number
  /** Processes at once; one more is answered with `throttled`, unless an idle one can make room. Default 2. */
  readonly processesMax?: number
  /** An idle process ends after this. Default 120,000. */
  readonly idleMs?: number
}

interface Member {
  readonly tenant: string
  process: SqlProcess | null
  asOf: number
  oldestTs: number
  busy: boolean
  usedMs: number
}

/** The engine's exceptions that say that a statement is too large. */
const tooLarge: ReadonlySet<number> = new Set([158, 159, 160, 161, 162, 167, 168, 241, 290, 306, 307, 396])

export class SnapshotSql implements TenantSql {
  readonly off = null
  readonly #options: SnapshotSqlOptions
  readonly #limits: SqlLimits
  readonly #snapshot: SqlSnapshot
  readonly #members = new Map<string, Member>()
  /** Tenants whose files are being removed. */
  readonly #forgetting = new Map<string, Promise<void>>()
  readonly #timer: NodeJS.Timeout
  #cleared: Promise<void> | null = null
  #closed = false

  constructor (options: SnapshotSqlOptions) {
    this.#options = options
    this.#limits = options.limits ?? sqlLimits
    this.#snapshot = new SqlSnapshot(options.connection, options.directory, sqlSnapshotRowsMax)
    this.#timer = setInterval(() => { void this.#endIdle() }, 5000).unref()
  }

  async run ({ tenant, query, format, oldestTs }: SqlRequest): Promise<SqlAnswer> {
    const sql = guardSql(query)
    const member = await this.#take(tenant)
    try {
      const process = await this.#fresh(member, oldestTs)
      const reply = await process.run(sql, format)
      if (reply.kind !== 'answer') throw refusalOf(reply)
      const { body, rows, truncated } = reply
      return { body, rows, truncated, asOf: member.asOf }
    } finally {
      member.busy = false
      member.usedMs = this.#options.clock.monotonicMs()
    }
  }

  async close (): Promise<void> {
    this.#closed = true
    clearInterval(this.#timer)
    for (const { process } of this.#members.values()) process?.kill()
    this.#members.clear()
    await Promise.all(this.#forgetting.values())
    await this.#snapshot.clear()
  }

  /** A place for the tenant's statement. @throws TwinfoldError `throttled` */
  async #take (tenant: string): Promise<Member> {
    if (this.#closed) throw new TwinfoldError('not_ready', 'the server is stopping')
    let member = this.#members.get(tenant)
    if (member?.busy === true) throw new TwinfoldError('throttled', 'a statement of this tenant is running: one at a time', { retryAfterMs: 1000 })
    if (member === undefined) {
      const { processesMax = 2 } = this.#options
      if (this.#members.size >= processesMax) {
        const [idlest] = [...this.#members.values()].filter(({ busy }) => !busy).sort((a, b) => a.usedMs - b.usedMs)
        if (idlest === undefined) throw new TwinfoldError('throttled', 'as many statements of tenants run as may', { retryAfterMs: 5000 })
        this.#drop(idlest)
      }
      member = { tenant, process: null, asOf: 0, oldestTs: 0, busy: true, usedMs: 0 }
      this.#members.set(tenant, member)
    }
    member.busy = true
    return member
  }

  /** A process whose data is young enough, and holds nothing that has expired. */
  async #fresh (member: Member, oldestTs: number): Promise<SqlProcess> {
    const { clock, freshMs = 60_000 } = this.#options
    const nowUs = clock.nowUs()
    const slackUs = freshMs * usPerMs
    // A retention that was shortened counts at once.
    const isFresh = nowUs - member.asOf <= slackUs && oldestTs - member.oldestTs <= slackUs && oldestTs >= member.oldestTs
    if (member.process?.alive === true && isFresh) return member.process
    member.process?.kill()
    member.process = null
    this.#cleared ??= this.#snapshot.clear()
    await this.#cleared
    await this.#forgetting.get(member.tenant)
    const tables = await this.#snapshot.refresh(member.tenant, oldestTs)
    // The engine's own directory is empty at each start: it keeps nothing between snapshots.
    const directory = join(this.#snapshot.directoryOf(member.tenant), 'engine')
    await rm(directory, { recursive: true, force: true })
    await mkdir(directory, { recursive: true, mode: 0o700 })
    const process = new SqlProcess(this.#limits, directory)
    member.process = process
    await process.open({ directory: join(directory, 'data'), tables, oldestTs })
    member.asOf = nowUs
    member.oldestTs = oldestTs
    return process
  }

  async #endIdle (): Promise<void> {
    const { clock, idleMs = 120_000 } = this.#options
    const nowMs = clock.monotonicMs()
    for (const member of [...this.#members.values()]) if (!member.busy && nowMs - member.usedMs > idleMs) this.#drop(member)
  }

  /** Its files go as well: the disk holds no more snapshots than there are members. */
  #drop (member: Member): void {
    this.#members.delete(member.tenant)
    member.process?.kill()
    const { tenant } = member
    const going: Promise<void> = (this.#forgetting.get(tenant) ?? Promise.resolve())
      .then(async () => { await this.#snapshot.forget(tenant) })
      .catch(() => { /* They are overwritten, or removed at the next start. */ })
      .then(() => { if (this.#forgetting.get(tenant) === going) this.#forgetting.delete(tenant) })
    this.#forgetting.set(tenant, going)
  }
}

/** Of the engine's text only what speaks of the statement: it may name files and versions. */
function refusalOf (reply: SqlReply): TwinfoldError {
  if (reply.kind !== 'refused' || reply.code === 0) return new TwinfoldError('analytics_unavailable', 'the engine for SQL failed', { cause: reply })
  const { code, text } = reply
  const name = /\(([A-Z_0-9]+)\)\s*$/.exec(text)?.[1] ?? 'exception'
  if (tooLarge.has(code)) return new TwinfoldError('limit_reached', `the statement is too large (${name}, ${code}): at most 30 s, 1 GiB of memory, 32 MiB of answer`, { field: 'query' })
  const said = text.replace(/^.*?DB::Exception: /s, '').replace(/\(([A-Z_0-9]+)\)\s*$/, '').replace(/\/[A-Za-z0-9_./-]{4,}/g, '…').replace(/snapshot\.[a-z0-9_]+/g, '…').slice(0, 500).trim()
  return new TwinfoldError('invalid_field', `'query': ${said} (${name}, ${code})`, { field: 'query' })
}

/** SQL that is not offered. */
export function offSql (reason: string): TenantSql {
  return {
    off: reason,
    run: async () => { throw new TwinfoldError('not_found', `SQL is off on this server: ${reason}`) },
    close: async () => { /* nothing is open */ }
  }
}
