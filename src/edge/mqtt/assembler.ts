/**
 * Puts the pieces in which the broker writes a packet together again. The broker writes all pieces of one packet in
 * one synchronous go, so a single buffer serves all connections.
 */
import { packetBytes } from './wire.js'

export interface PacketSink {
  /** Gets a whole packet, valid during the call only. */
  outgoing(packet: Buffer): void
}

export class PacketAssembler {
  #buffer = Buffer.allocUnsafeSlow(64 * 1024)
  #length = 0
  #owner: PacketSink | null = null

  write (sink: PacketSink, piece: Uint8Array | string): void {
    // Left over only when a writer threw between two pieces; what it began is not a packet.
    if (this.#owner !== sink) this.#length = 0
    this.#owner = sink
    const bytes = typeof piece === 'string' ? Buffer.byteLength(piece) : piece.length
    if (this.#length + bytes > this.#buffer.length) this.#grow(this.#length + bytes)
    if (typeof piece === 'string') this.#buffer.write(piece, this.#length)
    else this.#buffer.set(piece, this.#length)
    this.#length += bytes
    const total = packetBytes(this.#buffer, 0, this.#length)
    if (total > 0 && this.#length >= total) {
      this.#length = 0
      this.#owner = null
      sink.outgoing(this.#buffer.subarray(0, total))
    }
  }

  #grow (bytes: number): void {
    const grown = Buffer.allocUnsafeSlow(Math.max(bytes, this.#buffer.length * 2))
    this.#buffer.copy(grown, 0, 0, this.#length)
    this.#buffer = grown
  }
}
