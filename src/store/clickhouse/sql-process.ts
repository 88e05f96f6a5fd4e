/**
 * The server's side of a process that runs one tenant's SQL (workers/tenant-sql.ts). It is killed when a statement takes longer than
 * its time or more memory than it may: the engine's own limits come first, this is what holds if they do not.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { TwinfoldError } from '../../core/errors.js'
import type { SqlFormat } from '../fleet-store.js'
import type { SqlLimits, SqlOpenTask, SqlReply, SqlTask } from '../../../workers/tenant-sql-protocol.js'

/** The process with its engine, beyond what a statement may use. */
const engineBytes = 1024 ** 3
/** How much longer than the statement's time the engine may take to say so; how long it may take to start. */
const graceMs = 3000
const openMsMax = 30_000
const watchMs = 200
const pageBytes = 4096

export class SqlProcess {
  readonly #child: ChildProcess
  readonly #limits: SqlLimits
  #ended: string | null = null
  #settle: ((reply: SqlReply | Error) => void) | null = null

  constructor (limits: SqlLimits, directory: string, worker = new URL('../../../workers/tenant-sql.js', import.meta.url)) {
    this.#limits = limits
    // No environment: nothing of the server's settings is in reach of the engine.
    this.#child = fork(worker, [], { cwd: directory, env: {}, execArgv: [], serialization: 'advanced', stdio: ['ignore', 'ignore', 'ignore', 'ipc'] })
    this.#child.on('message', message => { this.#settled(message as SqlReply) })
    this.#child.on('error', error => { this.#gone(error.message) })
    this.#child.on('exit', (code, signal) => { this.#gone(`it ended with ${signal ?? String(code)}`) })
  }

  /** False once it has ended. */
  get alive (): boolean { return this.#ended === null }

  get pid (): number | undefined { return this.#child.pid }

  /** @throws TwinfoldError `analytics_unavailable` */
  async open (task: Omit<SqlOpenTask, 'kind' | 'limits'>): Promise<void> {
    const reply = await this.#ask({ kind: 'open', limits: this.#limits, ...task }, openMsMax)
    if (reply.kind === 'opened') return
    this.kill()
    throw new TwinfoldError('analytics_unavailable', 'the snapshot for SQL could not be opened', { cause: new Error(reply.kind === 'refused' ? reply.text : reply.kind) })
  }

  /** One at a time. @throws TwinfoldError `limit_reached`, `analytics_unavailable` */
  async run (sql: string, format: SqlFormat): Promise<SqlReply> {
    return await this.#ask({ kind: 'run', sql, format }, this.#limits.seconds * 1000 + graceMs)
  }

  kill (): void { this.#child.kill('SIGKILL') }

  async #ask (task: SqlTask, msMax: number): Promise<SqlReply> {
    if (this.#ended !== null) throw new TwinfoldError('analytics_unavailable', `the process for SQL is gone: ${this.#ended}`)
    if (this.#settle !== null) throw new Error('one statement at a time')
    let why: TwinfoldError | null = null
    const stop = (detail: string): void => {
      why = new TwinfoldError('limit_reached', detail, { field: 'query' })
      this.kill()
    }
    const timer = setTimeout(() => { stop(`the statement took longer than ${this.#limits.seconds} s`) }, msMax)
    const watch = setInterval(() => { if (this.#residentBytes() > this.#limits.memoryBytes + engineBytes) stop('the statement took more memory than it may') }, watchMs)
    try {
      return await new Promise<SqlReply>((resolve, reject) => {
        this.#settle = reply => { if (reply instanceof Error) reject(why ?? reply); else resolve(reply) }
        this.#child.send(task, error => { if (error !== null) this.#gone(error.message) })
      })
    } finally {
      clearTimeout(timer)
      clearInterval(watch)
      this.#settle = null
    }
  }

  /** 0 where the system does not tell. */
  #residentBytes (): number {
    try {
      return Number(readFileSync(`/proc/${String(this.#child.pid)}/statm`, 'utf8').split(' ')[1]) * pageBytes
    } catch {
      return 0
    }
  }

  #settled (reply: SqlReply): void { this.#settle?.(reply) }

  #gone (why: string): void {
    this.#ended ??= why
    this.#settle?.(new TwinfoldError('analytics_unavailable', 'the process that ran the statement ended', { retryAfterMs: 1000, cause: new Error(why) }))
  }
}
