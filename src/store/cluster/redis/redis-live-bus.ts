/**
 * What nodes tell each other over Redis' publish/subscribe: a channel for all and one for each node, on a connection of its own.
 * Bounded: while `charsUnsentMax` are on their way to Redis, more is refused.
 */
import { randomBytes } from 'node:crypto'
import { Redis } from 'ioredis'
import type { RedisSettings } from '../../../../workers/protocol.js'
import type { LiveBus, LiveBusListener } from '../../live-bus.js'
import { redisOptions, type RedisConnection } from './open-redis.js'

const charsUnsentMax = 16 * 1024 * 1024

export class RedisLiveBus implements LiveBus {
  readonly nodeId = randomBytes(9).toString('base64url')
  readonly #settings: RedisSettings
  readonly #redis: RedisConnection
  readonly #topic: string
  #hearing: Redis | null = null
  #up = false
  #charsUnsent = 0

  /** @param topic names the channels: buses of different topics do not hear each other */
  constructor (settings: RedisSettings, redis: RedisConnection, topic: 'live' | 'bell' = 'live') {
    this.#settings = settings
    this.#topic = topic
    this.#redis = redis
  }

  #channel (node: string | null): string { return node === null ? `${this.#settings.prefix}:${this.#topic}` : `${this.#settings.prefix}:${this.#topic}:${node}` }

  open (listener: LiveBusListener): void {
    const hearing = this.#hearing = new Redis(this.#settings.url, { ...redisOptions, autoResubscribe: false, connectionName: `twinfold-${this.#topic}` })
    const change = (up: boolean): void => {
      if (this.#up === up || this.#hearing === null) return
      this.#up = up
      listener.link(up)
    }
    hearing.on('error', () => { /* The command connection says why. */ })
    hearing.on('ready', () => {
      hearing.subscribe(this.#channel(null), this.#channel(this.nodeId)).then(() => { change(true) }, () => { hearing.disconnect(true) })
    })
    hearing.on('close', () => { change(false) })
    hearing.on('message', (_channel: string, text: string) => { listener.message(text) })
  }

  async send (to: string | null, text: string): Promise<boolean> {
    if (this.#charsUnsent + text.length > charsUnsentMax) return false
    this.#charsUnsent += text.length
    try {
      await this.#redis.run(async client => await client.publish(this.#channel(to), text))
      return true
    } catch {
      return false
    } finally {
      this.#charsUnsent -= text.length
    }
  }

  async close (): Promise<void> {
    const hearing = this.#hearing
    this.#hearing = null
    hearing?.disconnect()
    await this.#redis.close()
  }
}
