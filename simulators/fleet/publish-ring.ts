/**
 * A ring of finished PUBLISH packets with packet ids 1 to n, one behind the other in one buffer: any run of them is one
 * slice, one write. At most n may be unacknowledged, so that no packet id is in use twice (MQTT 3.1.1, 2.3.1).
 */
import { encodePublish, packetIdMax } from './packets.js'
import { patchTs, readingText, tsOffset, type WalkingMetrics } from './payloads.js'

export interface RingOptions {
  /** Packets in the ring, 1 to 65,535. */
  readonly length: number
  readonly topicOf: (index: number) => string
  readonly metrics: WalkingMetrics
  /** With a timestamp that `stamp` writes; such a ring belongs to one connection. */
  readonly stamped: boolean
}

export class PublishRing {
  readonly bytes: Buffer
  readonly length: number
  /** Start of packet i; one more entry than packets. */
  readonly #starts: Uint32Array
  /** Where the payload of packet i starts. */
  readonly #payloads: Uint32Array
  /** Timestamps written last, µs; 0 where none. */
  readonly #stamps: Float64Array

  constructor ({ length, topicOf, metrics, stamped }: RingOptions) {
    if (length < 1 || length > packetIdMax) throw new RangeError(`a ring has 1 to ${packetIdMax} packets, not ${length}`)
    this.length = length
    this.#starts = new Uint32Array(length + 1)
    this.#payloads = new Uint32Array(length)
    this.#stamps = new Float64Array(stamped ? length : 0)
    const packets: Buffer[] = []
    let at = 0
    for (let i = 0; i < length; i++) {
      const payload = Buffer.from(readingText(metrics, stamped))
      const packet = encodePublish(topicOf(i), i + 1, payload)
      packets.push(packet)
      this.#payloads[i] = at + packet.length - payload.length
      at += packet.length
      this.#starts[i + 1] = at
    }
    this.bytes = Buffer.concat(packets)
  }

  /** Bytes of packets [from, to). */
  slice (from: number, to: number): Buffer {
    return this.bytes.subarray(this.#starts[from], this.#starts[to])
  }

  /** Writes timestamps nowUs, at least one µs apart and above `lastUs`, into packets [from, to); returns the last one. */
  stamp (from: number, to: number, nowUs: number, lastUs: number): number {
    let ts = lastUs
    for (let i = from; i < to; i++) {
      ts = ts < nowUs ? nowUs : ts + 1
      this.#stamps[i] = ts
      patchTs(this.bytes, this.#payloads[i] + tsOffset, ts)
    }
    return ts
  }

  stampOf (index: number): number {
    return this.#stamps[index]
  }

  /** The JSON payload as it stands in packet i. */
  payloadText (index: number): string {
    return this.bytes.toString('utf8', this.#payloads[index], this.#starts[index + 1])
  }
}
