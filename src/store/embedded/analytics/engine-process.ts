/**
 * The embedded analytics engine as the server sees it: a child process that is started at the first use, started again with a growing
 * pause when it dies, and ended with the server. Whoever talks to it uses `settings` from any thread; while it is not there, calls
 * fail as they do for a ClickHouse server that is away.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Log } from '../../../core/log.js'
import type { EngineMessage, EngineStart } from '../../../../workers/analytics-engine-protocol.js'
import type { ClickHouseSettings } from '../../../../workers/protocol.js'

export interface EngineProcessOptions {
  readonly directory: string
  readonly memoryBytesMax: number
  readonly threads: number
  readonly log: Log
  readonly monotonicMs: () => number
}

/** `off`: chdb is not installed, and nothing will change that. */
export type EngineState = 'idle' | 'starting' | 'up' | 'down' | 'off'

const pauseMsMin = 250
const pauseMsMax = 30_000
/** One that lived so long starts again without a pause. */
const healthyMs = 60_000
const stopMs = 2000
/** Threads of the child in which statements run. */
const poolThreads = 8

export class EngineProcess {
  readonly settings: ClickHouseSettings
  readonly #options: EngineProcessOptions
  readonly #socketDirectory: string
  #child: ChildProcess | null = null
  #timer: NodeJS.Timeout | null = null
  #closed = false
  #state: EngineState = 'idle'
  #reason = ''
  #startedMs = 0
  #pauseMs = pauseMsMin
  #waiting: (() => void)[] = []
  readonly stats = { starts: 0, deaths: 0 }

  constructor (options: EngineProcessOptions) {
    this.#options = options
    // A path in the data directory could be too long for a socket.
    this.#socketDirectory = join(tmpdir(), `twinfold-engine-${randomUUID().slice(0, 13)}`)
    this.settings = { url: 'http://127.0.0.1', database: 'twinfold', socketPath: join(this.#socketDirectory, 'engine') }
  }

  get state (): EngineState { return this.#state }

  /** For people; '' where there is nothing to say. */
  get reason (): string { return this.#reason }

  get pid (): number | null { return this.#child?.pid ?? null }

  /** Starts it, and keeps it running from then on. */
  start (): void {
    if (this.#closed || this.#state !== 'idle') return
    this.#launch()
  }

  /** Resolves once it answers, is off, or after `timeoutMs`. */
  async settled (timeoutMs: number): Promise<EngineState> {
    if (this.#state === 'up' || this.#state === 'off') return this.#state
    await new Promise<void>(resolve => {
      const timer = setTimeout(resolve, timeoutMs)
      this.#waiting.push(() => { clearTimeout(timer); resolve() })
    })
    return this.#state
  }

  async close (): Promise<void> {
    this.#closed = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    const child = this.#child
    if (child !== null) {
      const ended = new Promise<void>(resolve => { child.once('exit', () => { resolve() }) })
      child.kill('SIGTERM')
      const timer = setTimeout(() => { child.kill('SIGKILL') }, stopMs)
      await ended
      clearTimeout(timer)
    }
    rmSync(this.#socketDirectory, { recursive: true, force: true })
  }

  #launch (): void {
    const { directory, memoryBytesMax, threads, monotonicMs } = this.#options
    mkdirSync(directory, { recursive: true })
    // The child takes it away when it ends; one that was killed left it. Not `recursive`: it must be made by this process, for its owner alone.
    rmSync(this.#socketDirectory, { recursive: true, force: true })
    mkdirSync(this.#socketDirectory, { mode: 0o700 })
    const start: EngineStart = { directory, socketPath: this.settings.socketPath as string, memoryBytesMax, threads }
    const entry = fileURLToPath(new URL('../../../../workers/analytics-engine.js', import.meta.url))
    this.#state = 'starting'
    this.#startedMs = monotonicMs()
    this.stats.starts++
    const child = fork(entry, [JSON.stringify(start)], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], env: { ...childEnvironment, UV_THREADPOOL_SIZE: String(poolThreads) }, execArgv: [] })
    this.#child = child
    let lastWords = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => { lastWords = (lastWords + text).slice(-1000) })
    child.on('message', (message: EngineMessage) => { this.#told(message) })
    child.on('error', error => { lastWords = error.message })
    child.once('exit', (code, signal) => { this.#ended(signal ?? `code ${code}`, lastWords.trim()) })
  }

  #told (message: EngineMessage): void {
    switch (message.kind) {
      case 'ready':
        this.#state = 'up'
        this.#reason = ''
        this.#settle()
        break
      case 'missing':
        this.#state = 'off'
        this.#reason = message.reason
        this.#settle()
        break
      case 'failed':
        this.#reason = message.reason
    }
  }

  #ended (how: string, lastWords: string): void {
    this.#child = null
    if (this.#closed) return
    if (this.#state === 'off') {
      this.#options.log.warn({ reason: this.#reason }, 'analytics is off')
      return
    }
    this.stats.deaths++
    const { monotonicMs, log } = this.#options
    this.#pauseMs = monotonicMs() - this.#startedMs > healthyMs ? pauseMsMin : Math.min(pauseMsMax, this.#pauseMs * 2)
    if (this.#state === 'up') this.#reason = `the analytics engine ended (${how})`
    this.#state = 'down'
    log.warn({ how, lastWords, againInMs: this.#pauseMs }, 'the analytics engine ended')
    this.#timer = setTimeout(() => { this.#launch() }, this.#pauseMs)
  }

  #settle (): void {
    for (const wake of this.#waiting.splice(0)) wake()
  }
}

/** None of the server's settings: they hold secrets, and the engine needs none of them. */
const childEnvironment = { PATH: '/usr/bin:/bin', TZ: 'UTC' }
