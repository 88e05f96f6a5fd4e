/**
 * Joins the chunks of one bucket in order of time, piece by piece (DESIGN 3.2): what lies before the earliest time of every chunk that
 * is still encoded is final, is given away, and makes room. Memory is the encoded chunks and the decoded ones that overlap; the
 * partition plan bounds both. Pure.
 *
 * A chunk that cannot be decoded is named and passed over: one damaged chunk must not keep the rest of a bucket from its tiers.
 */
import type { Chunk } from '../core/reading.js'
import { decodeChunk } from '../series/codec.js'
import { dropErased } from '../series/erase.js'
import { mergeChunks, type MergeRange, type MergeSource } from '../series/merge.js'
import { cutChunk } from '../series/cut-chunk.js'
import type { ErasedPart } from '../store/small-stores.js'
import { concatChunks } from './concat-chunks.js'

/** An encoded chunk, of the head or sealed. */
export interface EncodedSource {
  readonly minTs: number
  readonly maxTs: number
  readonly bytes: Uint8Array
  /** '' for a sealed chunk, which names the journals of its rows itself. */
  readonly journalId: string
}

export interface JoinOptions {
  readonly erased: readonly ErasedPart[]
  /** Rows that are joined at least before they are given away. */
  readonly rowsMin: number
  /** Join sealed chunks too that stand alone, which are joined already: to see whether they are. */
  readonly rejoin?: boolean
  readonly onDamaged: (source: EncodedSource, error: Error) => void
}

interface Held extends MergeSource {
  /** A result of `mergeChunks` with its journals: joined already. */
  readonly joined: boolean
}

const all: MergeRange = { fromTs: -Infinity, toTs: Infinity, erasedBefore: -Infinity, oldestTs: -Infinity }

/**
 * Merged chunks with a journal column, ascending, none overlapping the next, without what is erased.
 * @param sources in order of arrival where two give one point under one stamp
 */
export function * joinBucket (sources: readonly EncodedSource[], options: JoinOptions): Generator<Chunk, void> {
  const ordered = sources.map((source, i) => ({ source, i })).sort((a, b) => a.source.minTs - b.source.minTs || a.i - b.i).map(({ source }) => source)
  let held: Held[] = []
  let rows = 0
  let releaseAt = options.rowsMin
  for (let i = 0; i < ordered.length; i++) {
    const chunk = decode(ordered[i], options)
    if (chunk !== null && chunk.ts.length > 0) {
      held.push({ chunk, journalId: ordered[i].journalId, joined: ordered[i].journalId === '' && options.rejoin !== true })
      rows += chunk.ts.length
    }
    if (i === ordered.length - 1 || rows < releaseAt) continue
    const border = ordered[i + 1].minTs
    const merged = join(held)
    const final = cutChunk(merged, -Infinity, border)
    const rest = cutChunk(merged, border, Infinity)
    if (final.ts.length > 0) yield final
    held = rest.ts.length === 0 ? [] : [{ chunk: rest, journalId: '', joined: true }]
    rows = rest.ts.length
    // Where much overlaps, joining again for every chunk would cost the square of them.
    releaseAt = Math.max(options.rowsMin, rows * 2)
  }
  const last = join(held)
  if (last.ts.length > 0) yield last
}

function decode (source: EncodedSource, { erased, onDamaged }: JoinOptions): Chunk | null {
  try {
    return dropErased(decodeChunk(source.bytes), erased)
  } catch (error) {
    onDamaged(source, error as Error)
    return null
  }
}

function join (held: readonly Held[]): Chunk {
  if (held.length === 1 && held[0].joined) return held[0].chunk
  return concatChunks(held) ?? mergeChunks(held, all, { keepJournals: true })
}
