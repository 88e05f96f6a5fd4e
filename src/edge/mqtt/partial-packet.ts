/**
 * A packet that arrives in more than one read. Its room grows with what has arrived, not with what its header claims,
 * so that a claim costs nothing; each one has its own memory, because the journal may hold on to it.
 */
import { headerIncomplete, headerMalformed, packetBytes } from './wire.js'

const roomBytesMin = 256

export class PartialPacket {
  #bytes: Buffer
  #length: number
  /** The packet once it is whole. */
  whole: Buffer | null = null

  /** @param rest end of a read that holds no whole packet; copied, so that it does not keep the read alive. */
  constructor (rest: Buffer) {
    this.#bytes = Buffer.allocUnsafeSlow(Math.max(roomBytesMin, rest.length * 2))
    this.#length = rest.copy(this.#bytes)
  }

  get length (): number { return this.#length }

  /** Takes what it needs from the start of a read. Returns the bytes taken, or -1 for a packet that must be refused. */
  fill (read: Buffer, bytesMax: number): number {
    let taken = 0
    while (taken < read.length) {
      const total = packetBytes(this.#bytes, 0, this.#length)
      if (total === headerMalformed || total > bytesMax) return -1
      // Byte by byte until the header is there; at most four times.
      const wanted = total === headerIncomplete ? 1 : total - this.#length
      const count = Math.min(wanted, read.length - taken)
      this.#reserve(this.#length + count, total)
      read.copy(this.#bytes, this.#length, taken, taken + count)
      this.#length += count
      taken += count
      const complete = packetBytes(this.#bytes, 0, this.#length)
      if (complete > bytesMax) return -1
      if (complete === this.#length) {
        this.whole = this.#bytes.subarray(0, this.#length)
        return taken
      }
    }
    return packetBytes(this.#bytes, 0, this.#length) === headerMalformed ? -1 : taken
  }

  #reserve (bytes: number, total: number): void {
    if (bytes <= this.#bytes.length) return
    const grown = Buffer.allocUnsafeSlow(Math.max(bytes, Math.min(this.#bytes.length * 2, total)))
    this.#bytes.copy(grown, 0, 0, this.#length)
    this.#bytes = grown
  }
}
