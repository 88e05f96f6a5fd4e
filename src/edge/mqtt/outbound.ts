/**
 * Bytes on their way to one client. The broker never waits for a socket: what the client does not read is kept up to
 * a bound, then QoS 0 messages are dropped and the rest closes the connection (its session keeps QoS 1 and 2). What
 * gathers in one turn leaves in one write; the socket is given `writeBytesMax` at a time, so that a slow reader shows
 * its progress (`drain`) and can be told from a dead one.
 */
import type { Duplex } from 'node:stream'
import { mqttOutboundBytesMax } from '../../core/limits.js'

/** Most bytes in the hands of the socket at a time. */
const writeBytesMax = 64 * 1024
/** QoS 0 is dropped from here on, so that a flood of it leaves room for acknowledgements and QoS 1. */
export const qos0BytesMax = mqttOutboundBytesMax / 2
/** A replay of stored messages goes on below this. */
export const replayBytesMax = 128 * 1024

export class Outbound {
  readonly #socket: Duplex
  #queue: Buffer[] | null = null
  #queuedBytes = 0
  /** Counts writes that were taken up, to see progress. */
  progress = 0

  constructor (socket: Duplex) { this.#socket = socket }

  /** Bytes that the client has not taken yet. */
  get pendingBytes (): number { return this.#queuedBytes + this.#socket.writableLength }

  get queuedBytes (): number { return this.#queuedBytes }

  /** Queues bytes, which must not change any more; `flush` sends them. */
  push (bytes: Buffer): void {
    if (this.#queue === null) this.#queue = [bytes]
    else this.#queue.push(bytes)
    this.#queuedBytes += bytes.length
  }

  /** Hands to the socket what it takes without buffering much. */
  flush (): void {
    while (this.#queue !== null && !this.#socket.writableNeedDrain) {
      this.progress++
      this.#socket.write(this.#take(this.#queue))
    }
  }

  #take (queue: Buffer[]): Buffer {
    let count = 1
    let bytes = queue[0].length
    while (count < queue.length && bytes + queue[count].length <= writeBytesMax) bytes += queue[count++].length
    this.#queuedBytes -= bytes
    if (count === queue.length) {
      this.#queue = null
      return count === 1 ? queue[0] : Buffer.concat(queue, bytes)
    }
    const taken = queue.splice(0, count)
    return count === 1 ? taken[0] : Buffer.concat(taken, bytes)
  }

  /** Hands everything over for the last time. */
  flushAll (): void {
    if (this.#queue === null) return
    this.#socket.write(this.#queue.length === 1 ? this.#queue[0] : Buffer.concat(this.#queue))
    this.drop()
  }

  drop (): void {
    this.#queue = null
    this.#queuedBytes = 0
  }
}
