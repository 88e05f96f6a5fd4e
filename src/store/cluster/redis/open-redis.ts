/**
 * A connection to Redis that never makes its caller wait long. While Redis is away every call is refused at once with
 * `store_unavailable`; a call under way when the connection breaks fails then, and it is unknown whether Redis ran it, so callers
 * send only what may be said twice, or look before they say it again. The connection is tried anew at least once a second.
 *
 * A Redis that keeps the connection and does not answer (paused, a script that runs away) counts as away after a few calls that
 * timed out; it is asked with PING until it answers.
 */
import { Redis, type RedisOptions } from 'ioredis'
import type { RedisSettings } from '../../../../workers/protocol.js'
import type { Clock } from '../../../core/clock.js'
import { TwinfoldError } from '../../../core/errors.js'
import type { Log } from '../../../core/log.js'
import type { DependencyState, DependencyStatus, Watched } from '../../dependency-status.js'

/** A command without an answer fails after this long. */
export const commandTimeoutMs = 2000
const connectTimeoutMs = 1000
/** Before another attempt to connect; together with the attempt less than the second that is promised. */
const reconnectMs = 250
/** The first calls of a process wait this long at most for the first connection. */
const firstConnectMs = 1500
/** Calls in a row that timed out, after which Redis counts as away. */
const timeoutsUntilDown = 3
const probeEveryMs = 250
/** Calls under way at a time; one more is refused. */
const runningMax = 50_000

export interface RedisConnection extends Watched {
  readonly client: Redis
  /** Before every key and channel. */
  readonly prefix: string
  /** Runs commands; rejects with `store_unavailable` where Redis does not answer, at once while that is known. */
  run<T>(action: (client: Redis) => Promise<T>): Promise<T>
  /** Calls back on every change between answering and not; returns how to end that. Must not throw. */
  onChange(listener: (up: boolean) => void): () => void
  readonly up: boolean
  close(): Promise<void>
}

export interface OpenRedisOptions {
  readonly clock: Clock
  readonly log: Log
  /** For logs, metrics and /readyz. */
  readonly name: string
}

/** What every connection of ours is made with. */
export const redisOptions: RedisOptions = {
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  connectTimeout: connectTimeoutMs,
  commandTimeout: commandTimeoutMs,
  retryStrategy: () => reconnectMs,
  // A replica that has just been promoted answers READONLY on an old connection: find the master anew.
  reconnectOnError: error => error.message.startsWith('READONLY'),
  protocol: 2
}

/** Begins to connect and returns at once. */
export function openRedis (settings: RedisSettings, options: OpenRedisOptions): RedisConnection {
  return new WatchedRedis(settings, options)
}

class WatchedRedis implements RedisConnection {
  readonly client: Redis
  readonly prefix: string
  readonly #name: string
  readonly #clock: Clock
  readonly #log: Log
  readonly #listeners = new Set<(up: boolean) => void>()
  readonly #first: Promise<void>
  #endFirst: () => void = () => {}
  #waitsForFirst = true
  #up = false
  #reason = 'not connected yet'
  #sinceMs: number
  #timeouts = 0
  #probe: NodeJS.Timeout | null = null
  #closed = false
  #calls = 0
  #failures = 0
  #rejected = 0
  #running = 0

  constructor (settings: RedisSettings, { clock, log, name }: OpenRedisOptions) {
    this.prefix = settings.prefix
    this.#name = name
    this.#clock = clock
    this.#log = log
    this.#sinceMs = clock.monotonicMs()
    this.#first = new Promise(resolve => {
      const timer = setTimeout(() => { this.#endFirst() }, firstConnectMs).unref()
      this.#endFirst = () => {
        clearTimeout(timer)
        this.#waitsForFirst = false
        resolve()
      }
    })
    this.client = new Redis(settings.url, { ...redisOptions, connectionName: `twinfold ${name}`.replaceAll(' ', '-') })
    this.client.on('ready', () => {
      this.#timeouts = 0
      this.#change(true, '')
      this.#endFirst()
    })
    this.client.on('close', () => { this.#change(false, this.#reason === '' ? 'the connection was lost' : this.#reason) })
    this.client.on('error', (error: Error) => {
      if (!this.#up) this.#reason = error.message
      this.#log.debug({ dependency: name, error: error.message }, 'Redis')
    })
  }

  get up (): boolean { return this.#up }

  status (): DependencyStatus {
    const state: DependencyState = this.#up ? 'up' : 'down'
    return {
      name: this.#name, state, reason: this.#up ? '' : this.#reason, sinceMs: this.#sinceMs,
      calls: this.#calls, failures: this.#failures, rejected: this.#rejected, running: this.#running, waiting: 0
    }
  }

  onChange (listener: (up: boolean) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  async run<T> (action: (client: Redis) => Promise<T>): Promise<T> {
    if (this.#waitsForFirst && !this.#up) await this.#first
    if (!this.#up || this.#running >= runningMax) {
      this.#rejected++
      throw this.#unavailable(this.#up ? 'too many calls are under way' : this.#reason)
    }
    this.#calls++
    this.#running++
    try {
      const answer = await action(this.client)
      this.#timeouts = 0
      return answer
    } catch (error) {
      throw this.#failed(error)
    } finally {
      this.#running--
    }
  }

  #failed (error: unknown): unknown {
    // What Redis itself answered (a script's error) is an answer: it is not away.
    if (error instanceof TwinfoldError || (error as Error).name === 'ReplyError') return error
    this.#failures++
    if ((error as Error).message === 'Command timed out' && ++this.#timeouts >= timeoutsUntilDown && this.#up) {
      this.#change(false, 'it does not answer in time')
      this.#ask()
    }
    return this.#unavailable((error as Error).message, error)
  }

  #unavailable (reason: string, cause?: unknown): TwinfoldError {
    return new TwinfoldError('store_unavailable', `Redis (${this.#name}) does not answer: ${reason}`, { cause, retryAfterMs: 1000 })
  }

  /** Asks until there is an answer on this connection, or it breaks. */
  #ask (): void {
    if (this.#probe !== null || this.#closed) return
    this.#probe = setTimeout(() => {
      this.#probe = null
      if (this.#up || this.#closed) return
      this.client.ping().then(() => {
        this.#timeouts = 0
        this.#change(true, '')
      }, () => { if (this.client.status === 'ready') this.#ask() })
    }, probeEveryMs).unref()
  }

  #change (up: boolean, reason: string): void {
    if (this.#closed) return
    this.#reason = reason
    if (this.#up === up) return
    this.#up = up
    this.#sinceMs = this.#clock.monotonicMs()
    if (up) this.#log.info({ dependency: this.#name }, 'Redis answers')
    else this.#log.warn({ dependency: this.#name, reason }, 'Redis does not answer')
    for (const listener of [...this.#listeners]) listener(up)
  }

  async close (): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#endFirst()
    if (this.#probe !== null) clearTimeout(this.#probe)
    // What is under way may still be answered, within the time of one command.
    if (this.client.status === 'ready') await this.client.quit().catch(() => {})
    this.client.disconnect()
    this.#up = false
    this.#reason = 'closed'
  }
}
