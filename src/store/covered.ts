/**
 * Which head chunks the sealed rows of a bucket contain. Told by slice and part: a merge of slabs writes its chunks under the newest
 * slice that it holds, so a later part of a slice may come long after an earlier one was sealed, and must not count as covered.
 */
import type { CoveredChunk, DeviceChunkRow } from './raw-store.js'

export function coveredName (chunk: CoveredChunk): string {
  return chunk.part === undefined ? `${chunk.journalId}:${chunk.mark}` : `${chunk.journalId}:${chunk.mark}:${chunk.part}`
}

export class CoveredChunks {
  readonly #names: ReadonlySet<string>

  constructor (covered: readonly CoveredChunk[] = []) {
    this.#names = new Set(covered.map(coveredName))
  }

  get size (): number { return this.#names.size }

  has ({ slice, part }: Pick<DeviceChunkRow, 'slice' | 'part'>): boolean {
    if (this.#names.size === 0) return false
    return this.#names.has(coveredName({ ...slice, part })) || this.#names.has(coveredName(slice))
  }
}
