/**
 * Cuts joined readings into the compact chunks of a sealed bucket (DESIGN 3.2): as many rows as a reader likes to decode at once, and
 * never more bytes than the bound, where a single reading does not exceed it. Pure.
 */
import type { Chunk, Column } from '../core/reading.js'
import { ChunkFlags, encodeChunk } from '../series/chunk.js'
import { sliceRows } from '../series/cut-chunk.js'
import type { SealedBucket } from '../store/raw-store.js'

export type SealedChunk = SealedBucket['chunks'][number]

/** Bytes of a sealed chunk at most; one reading alone may be larger. */
export const sealedChunkBytesMax = 256 * 1024
/** Points and rows that a sealed chunk aims at: larger ones compress hardly better and cost a reader of an hour more. */
const pointsWanted = 131_072
const rowsMin = 512
export const sealedRowsMax = 8192
/** Pieces that are not squeezed after one that hardly shrank: the same device's data is much alike. */
const unsqueezedPieces = 15

/** Rows that a sealed chunk of so many metrics should have. */
export function sealedRows (columns: number): number {
  return Math.max(rowsMin, Math.min(sealedRowsMax, Math.floor(pointsWanted / Math.max(1, columns))))
}

/** Gathers joined chunks, given in order of time, and cuts them. */
export class SealedCutter {
  readonly #squeeze: boolean
  /** Pieces until squeezing is tried again; it costs as much as all else, and noisy numbers gain nothing. */
  #pause = 0
  readonly chunks: SealedChunk[] = []

  /** @param squeeze spend time on making them smaller. */
  constructor ({ squeeze }: { squeeze: boolean }) {
    this.#squeeze = squeeze
  }

  add (chunk: Chunk): void {
    const rows = sealedRows(chunk.columns.length)
    // Equal pieces: a small last one would compress badly.
    const pieces = Math.ceil(chunk.ts.length / rows)
    let from = 0
    for (let piece = 1; piece <= pieces; piece++) {
      const to = piece === pieces ? chunk.ts.length : momentBorder(chunk, Math.round(chunk.ts.length * piece / pieces))
      if (to > from) this.#encode(sliceRows(chunk, from, to))
      from = to
    }
  }

  #encode (chunk: Chunk): void {
    const squeeze = this.#squeeze && this.#pause === 0
    const bytes = encodeChunk(chunk, { squeeze })
    if (!squeeze) this.#pause = Math.max(0, this.#pause - 1)
    else if ((bytes[1] & ChunkFlags.squeezed) === 0) this.#pause = unsqueezedPieces
    const { ts } = chunk
    const middle = bytes.length > sealedChunkBytesMax ? momentBorder(chunk, Math.ceil(ts.length / 2)) : 0
    if (middle <= 0 || middle >= ts.length) {
      this.chunks.push({ minTs: ts[0], maxTs: ts[ts.length - 1], bytes })
      return
    }
    this.#encode(sliceRows(chunk, 0, middle))
    this.#encode(sliceRows(chunk, middle, ts.length))
  }
}

/** The first row from `row` on that begins another timestamp: rows of one time stay together. */
function momentBorder ({ ts }: Chunk, row: number): number {
  while (row > 0 && row < ts.length && ts[row] === ts[row - 1]) row++
  return row
}

/** Values in a chunk, the names of journals not counted. */
export function pointsOf (columns: readonly Column[]): number {
  return columns.reduce((sum, { metric, values }) => metric === '' ? sum : sum + values.length, 0)
}
