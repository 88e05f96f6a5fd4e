/**
 * What the server itself sends to one client beside the broker: twins, commands, answers to `twin/get`. It leaves in the order of the
 * calls, through the same bounds as everything else. Its packet ids come from the upper half of their range, the broker's from the
 * lower one, so an acknowledgement tells whose message it is about and neither can take the other's id (MQTT 3.1.1 section 2.3.1).
 */
import type { ClientSide } from './client-side.js'
import { encodePublish } from './wire.js'

export type Sent = 'acked' | 'written' | 'lost'

/** First packet id of the stage; the broker's lie below. */
export const ownPacketIdMin = 0x8000
const packetIdMax = 0xffff

/** Keeps the ids that the broker's client counts up below `ownPacketIdMin`. */
export function limitBrokerIds (client: object): void {
  let next = 1 + ((client as { _nextId: number })._nextId % (ownPacketIdMin - 1))
  Object.defineProperty(client, '_nextId', {
    get: () => next,
    set: (id: number) => { next = id < ownPacketIdMin ? id : 1 }
  })
}

export class Downstream {
  readonly #connection: ClientSide
  readonly #waiting = new Map<number, (sent: Sent) => void>()
  #nextId: number

  constructor (connection: ClientSide) {
    this.#connection = connection
    // Somewhere else on every connection: a late acknowledgement of the last one then hits nothing, as a rule.
    this.#nextId = ownPacketIdMin + Number.parseInt(connection.connectionId, 10) % ownPacketIdMin
  }

  /** Messages that the client has not acknowledged. */
  get unacked (): number { return this.#waiting.size }

  has (packetId: number): boolean { return this.#waiting.has(packetId) }

  /** Queues a PUBLISH. A client that does not read, or owes too many acknowledgements, is closed; the answer is `lost` then. */
  send (topic: string, payload: Uint8Array, qos: 0 | 1): Promise<Sent> {
    const connection = this.#connection
    if (connection.destroyed) return Promise.resolve('lost')
    if (qos === 0) {
      connection.sendOwn(encodePublish(topic, payload, 0, 0, false), 0)
      return Promise.resolve(connection.destroyed ? 'lost' : 'written')
    }
    const packetId = this.#freeId()
    return new Promise(resolve => {
      this.#waiting.set(packetId, resolve)
      connection.sendOwn(encodePublish(topic, payload, 1, packetId, false), packetId)
    })
  }

  #freeId (): number {
    // Ends: what is unacknowledged is bounded far below the size of the range.
    while (this.#waiting.has(this.#nextId)) this.#advance()
    const packetId = this.#nextId
    this.#advance()
    return packetId
  }

  #advance (): void { this.#nextId = this.#nextId === packetIdMax ? ownPacketIdMin : this.#nextId + 1 }

  /** A PUBACK for a message of the stage. */
  acked (packetId: number): void {
    const resolve = this.#waiting.get(packetId)
    this.#waiting.delete(packetId)
    resolve?.('acked')
  }

  /** The connection has ended. */
  end (): void {
    const waiting = [...this.#waiting.values()]
    this.#waiting.clear()
    for (const resolve of waiting) resolve('lost')
  }
}
