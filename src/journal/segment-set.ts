/**
 * The journal's files in order: closed segments and the one that is written. Knows which of them hold a range, what they
 * take on disk, and which can go.
 */
import { join } from 'node:path'
import { segmentFileName } from './filenames.js'
import type { SegmentRef } from './journal-types.js'

export interface ClosedSegment {
  readonly path: string
  readonly base: number
  /** Position after the last durable record; base + header where there is none. */
  readonly end: number
  /** Size of the file, bytes. */
  readonly fileBytes: number
}

export interface ActiveSegment {
  readonly path: string
  readonly base: number
  readonly file: number
  /** Position after the last durable record. */
  end: number
}

export class SegmentSet {
  readonly #directory: string
  readonly #journalId: string
  /** Ascending by base. */
  readonly #closed: ClosedSegment[]
  #closedBytes = 0
  active: ActiveSegment | null = null

  constructor (directory: string, journalId: string, closed: readonly ClosedSegment[]) {
    this.#directory = directory
    this.#journalId = journalId
    this.#closed = [...closed]
    for (const segment of closed) this.#closedBytes += segment.fileBytes
  }

  pathOf (base: number): string {
    return join(this.#directory, segmentFileName(this.#journalId, base))
  }

  get directory (): string { return this.#directory }

  get closed (): readonly ClosedSegment[] { return this.#closed }

  /** Bytes on disk. */
  get bytes (): number {
    return this.#closedBytes + (this.active === null ? 0 : this.active.end - this.active.base)
  }

  /** Closes the books on the active segment: nothing will be appended to it. */
  closeActive (fileBytes: number): void {
    const active = this.active as ActiveSegment
    this.#closed.push({ path: active.path, base: active.base, end: active.end, fileBytes })
    this.#closedBytes += fileBytes
    this.active = null
  }

  /** Corrects the size of a closed segment's file. */
  resize (path: string, fileBytes: number): void {
    const index = this.#closed.findIndex(segment => segment.path === path)
    if (index === -1) return
    this.#closedBytes += fileBytes - this.#closed[index].fileBytes
    this.#closed[index] = { ...this.#closed[index], fileBytes }
  }

  forget (path: string): void {
    const index = this.#closed.findIndex(segment => segment.path === path)
    if (index === -1) return
    this.#closedBytes -= this.#closed[index].fileBytes
    this.#closed.splice(index, 1)
  }

  /** Segments that hold a part of [from, to), in order. */
  covering (from: number, to: number): SegmentRef[] {
    const found: SegmentRef[] = []
    for (const { path, base, end } of this.#closed) if (base < to && end > from) found.push({ path, base, end })
    const active = this.active
    if (active !== null && active.base < to && active.end > from) found.push({ path: active.path, base: active.base, end: active.end })
    return found
  }

  /** The oldest segment, when all of it lies before the position; never the active one. */
  oldestBefore (position: number): ClosedSegment | null {
    const oldest = this.#closed[0]
    return oldest !== undefined && oldest.end <= position ? oldest : null
  }
}
