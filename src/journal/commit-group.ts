/**
 * The records that one write and one fdatasync make durable. Small bodies are copied into chunks of memory, large ones
 * are written from where they are. Nothing is allocated per record but the view that the checksum needs.
 */
import { crc32c } from '@node-rs/crc32'
import { lengthWord } from './record-check.js'
import { recordHeaderBytes, type SliceMark } from './record.js'
import type { CommitWaiter } from './journal-types.js'
import type { SliceState } from './slice-tracker.js'

/** Bodies of this size and above are written by reference. */
export const referencedBodyBytesMin = 16 * 1024
/** Memory is taken in chunks of this size; it holds any record whose body is copied. */
const chunkBytes = 1024 * 1024
/** Chunks kept for the next groups; more are left to the garbage collector. */
const freeChunksMax = 16

interface Chunk {
  readonly bytes: Uint8Array
  readonly memory: ArrayBuffer
  readonly view: DataView
}

/** Chunks that are used again from group to group. */
export class ChunkPool {
  readonly #free: Chunk[] = []

  take (): Chunk {
    const chunk = this.#free.pop()
    if (chunk !== undefined) return chunk
    const memory = new ArrayBuffer(chunkBytes)
    return { bytes: new Uint8Array(memory), memory, view: new DataView(memory) }
  }

  give (chunks: Chunk[]): void {
    for (const chunk of chunks) if (this.#free.length < freeChunksMax) this.#free.push(chunk)
  }
}

/** A mark that waits for its group; automatic ones have nobody to tell but the listeners. */
export interface PendingMark {
  readonly mark: SliceMark
  readonly resolve: ((mark: SliceMark) => void) | null
  readonly reject: ((error: Error) => void) | null
}

export class CommitGroup {
  /** Position of the segment's first byte. */
  readonly segmentBase: number
  /** Offset in the segment at which the group begins. */
  readonly offset: number
  bytes = 0
  records = 0
  readonly waiters: CommitWaiter[] = []
  readonly tokens: number[] = []
  readonly marks: PendingMark[] = []
  /** State of the open slice after the group; set when the group is closed. */
  after: SliceState | null = null

  readonly #pool: ChunkPool
  readonly #chunks: Chunk[] = []
  readonly #pieces: Uint8Array[] = []
  #bytes: Uint8Array
  #memory: ArrayBuffer
  #view: DataView
  #used = 0
  /** Start of the part of the chunk that is not in `#pieces` yet. */
  #pieceStart = 0

  constructor (pool: ChunkPool, segmentBase: number, offset: number) {
    this.#pool = pool
    this.segmentBase = segmentBase
    this.offset = offset
    const chunk = pool.take()
    this.#chunks.push(chunk)
    this.#bytes = chunk.bytes
    this.#memory = chunk.memory
    this.#view = chunk.view
  }

  /** Adds one record. @param seed from `recordSeed` for the offset `this.offset + this.bytes` */
  add (kind: number, flags: number, identity: Uint8Array, body: Uint8Array, messages: number, stamp: number, seed: number): void {
    const identityBytes = identity.length
    const bodyBytes = body.length
    const length = recordHeaderBytes + identityBytes + bodyBytes
    const referenced = bodyBytes >= referencedBodyBytesMin
    const copied = referenced ? length - bodyBytes : length
    if (this.#used + copied > chunkBytes) this.#nextChunk()
    const at = this.#used
    const view = this.#view
    view.setUint32(at + 4, lengthWord(length, seed), true)
    view.setUint8(at + 8, kind)
    view.setUint8(at + 9, flags)
    view.setUint16(at + 10, identityBytes, true)
    view.setUint32(at + 12, messages, true)
    view.setFloat64(at + 16, stamp, true)
    this.#bytes.set(identity, at + recordHeaderBytes)
    if (!referenced) this.#bytes.set(body, at + recordHeaderBytes + identityBytes)
    let crc = crc32c(new Uint8Array(this.#memory, at + 4, copied - 4), seed)
    if (referenced) crc = crc32c(body, crc)
    view.setUint32(at, crc, true)
    this.#used += copied
    this.bytes += length
    this.records++
    if (referenced) {
      this.#closePiece()
      this.#pieces.push(body)
    }
  }

  /** What is to be written, in order. */
  pieces (): Uint8Array[] {
    this.#closePiece()
    return this.#pieces
  }

  /** Gives the memory back; the group must not be used afterwards. */
  recycle (): void {
    this.#pool.give(this.#chunks)
    this.#chunks.length = 0
    this.#pieces.length = 0
  }

  #closePiece (): void {
    if (this.#used > this.#pieceStart) this.#pieces.push(new Uint8Array(this.#memory, this.#pieceStart, this.#used - this.#pieceStart))
    this.#pieceStart = this.#used
  }

  #nextChunk (): void {
    this.#closePiece()
    const chunk = this.#pool.take()
    this.#chunks.push(chunk)
    this.#bytes = chunk.bytes
    this.#memory = chunk.memory
    this.#view = chunk.view
    this.#used = 0
    this.#pieceStart = 0
  }
}
