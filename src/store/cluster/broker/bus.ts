/**
 * What nodes say to each other over Redis' publish/subscribe: a channel for all, a channel for each. It is a connection of its own;
 * what was sent while it was broken is lost, so `onLink(true)` means: load everything anew. A mark that this node sends itself
 * with every heartbeat shows that the connection really carries; one that does not is closed and made again.
 */
import { Redis } from 'ioredis'
import type { RedisSettings } from '../../../../workers/protocol.js'
import type { Log } from '../../../core/log.js'
import { redisOptions } from '../redis/open-redis.js'
import type { BrokerKeys } from './keys.js'

/** A change of a node's interest: added and removed filters follow. `anew` '1': all before is void. */
export type InterestMessage = readonly [node: string, version: number, anew: string, added: number, ...filters: string[]]

/** To one node. `close`: the client connects elsewhere, close its connection; `closed`: done; `seen`: the version of your interest is known here. */
export type NodeMessage =
  | { readonly kind: 'close', readonly from: string, readonly client: string, readonly connection: string, readonly request: number }
  | { readonly kind: 'closed', readonly request: number }
  | { readonly kind: 'seen', readonly from: string, readonly version: number }

export interface BusListener {
  /** The connection carries now, or no longer. */
  link(up: boolean): void
  interest(message: InterestMessage): void
  gone(nodeId: string): void
  message(message: NodeMessage): void
  /** A packet with its number in the queues. The buffer is the caller's own. */
  packet(number: number, bytes: Buffer): void
}

const mark = { packet: 0x70, json: 0x6a, echo: 0x65 } as const
const numberDigits = 16
/** Heartbeats without their echo after which the connection is given up. */
const echoesMissedMax = 3

export const echo = Buffer.from([mark.echo])

export function encodeNodeMessage (message: NodeMessage): string { return `j${JSON.stringify(message)}` }

export class Bus {
  readonly #redis: Redis
  readonly #keys: BrokerKeys
  readonly #ownChannel: string
  readonly #listener: BusListener
  readonly #log: Log
  #missed = 0
  #up = false
  #closed = false

  constructor (settings: RedisSettings, keys: BrokerKeys, nodeId: string, listener: BusListener, log: Log) {
    this.#keys = keys
    this.#ownChannel = keys.nodeChannel(nodeId)
    this.#listener = listener
    this.#log = log
    this.#redis = new Redis(settings.url, { ...redisOptions, autoResubscribe: false, connectionName: 'twinfold-messages' })
    this.#redis.on('error', () => { /* The command connection says why. */ })
    this.#redis.on('ready', () => { this.#subscribe() })
    this.#redis.on('close', () => { this.#change(false) })
    this.#redis.on('messageBuffer', (channel: Buffer, message: Buffer) => { this.#received(channel, message) })
  }

  get up (): boolean { return this.#up }

  #subscribe (): void {
    this.#redis.subscribe(this.#keys.bus, this.#ownChannel).then(() => { this.#change(true) }, () => { this.#redis.disconnect(true) })
  }

  #change (up: boolean): void {
    this.#missed = 0
    if (this.#up === up || this.#closed) return
    this.#up = up
    this.#listener.link(up)
  }

  /** A heartbeat was sent, with an echo to come. */
  beat (): void {
    if (!this.#up || ++this.#missed <= echoesMissedMax) return
    this.#log.warn({ dependency: 'messages' }, 'the connection for messages between nodes carries nothing and is made anew')
    this.#redis.disconnect(true)
  }

  #received (channel: Buffer, message: Buffer): void {
    try {
      if (message[0] === mark.packet) {
        this.#listener.packet(Number(message.toString('latin1', 1, 1 + numberDigits)), message.subarray(1 + numberDigits))
      } else if (message[0] === mark.echo) {
        this.#missed = 0
      } else if (channel.toString() === this.#keys.bus) {
        const content = JSON.parse(message.toString()) as InterestMessage | { gone: string }
        if ('gone' in content) this.#listener.gone(content.gone)
        else this.#listener.interest(content)
      } else {
        this.#listener.message(JSON.parse(message.toString('utf8', 1)) as NodeMessage)
      }
    } catch (error) {
      this.#log.error({ error: (error as Error).message }, 'a message of another node could not be read')
    }
  }

  close (): void {
    this.#closed = true
    this.#up = false
    this.#redis.disconnect()
  }
}

/** A packet to one node, as `packet` gets it; scripts make the same. */
export function encodePacketMessage (packet: Buffer): Buffer {
  return Buffer.concat([Buffer.from([mark.packet]), Buffer.from('0'.repeat(numberDigits)), packet])
}
