/** What a job of kind `import` holds, and how results of pieces add up in it. Pure. */
import type { DeadLetterReason } from '../store/dead-letter-store.js'
import type { Job } from '../store/job-store.js'
import type { ImportCursor, ImportPieceResult, ImportSettings, RefusedRow } from '../../workers/transfer-protocol.js'
import { samplesPerJobMax } from './row-limits.js'

export interface ImportBody {
  /** The node whose disk has the file. */
  readonly node: string
  readonly bytes: number
  readonly settings: ImportSettings
  /** Stands for a journal in the rows that the import writes: 16 hex digits. */
  readonly journalId: string
  /** Accept stamps, µs: piece i has the i-th of them, the last ones share one. */
  readonly stamp: number
  readonly stamps: number
  /** The next piece, and where it begins. */
  readonly piece: number
  readonly at: Omit<ImportCursor, 'columns'>
  /** Counts what was begun: a piece that is written again has an id of its own, so that a seal of its first, half written rows covers nothing else. */
  readonly attempt: number
  readonly rows: number
  readonly points: number
  readonly types: ImportPieceResult['types']
  readonly refused: Readonly<Partial<Record<DeadLetterReason, number>>>
  readonly samples: readonly RefusedRow[]
  readonly letters: number
  readonly chunkRows: number
  readonly bytesOut: number
}

/** Bytes of text that a piece has at least, as far as stamps are set aside for it. */
const stampBytes = 128 * 1024
const stampsMax = 65_536
const stampsMin = 1024

/** How many stamps an import of so many bytes sets aside. */
export function stampsFor (bytes: number): number {
  return Math.min(stampsMax, Math.max(stampsMin, Math.ceil(bytes / stampBytes) + 2))
}

/** Attempts that the id of a piece tells apart. */
const attemptsMax = 4096

/** Mark of the slice that a piece writes: greater for later pieces and attempts. */
export function markOf ({ piece, attempt }: Pick<ImportBody, 'piece' | 'attempt'>): number {
  return (piece + 1) * attemptsMax + Math.min(attempt, attemptsMax - 1)
}

export function stampOf ({ stamp, stamps, piece }: Pick<ImportBody, 'stamp' | 'stamps' | 'piece'>): number {
  return stamp + Math.min(piece, stamps - 1)
}

export function newImportBody (given: Pick<ImportBody, 'node' | 'bytes' | 'settings' | 'journalId' | 'stamp' | 'stamps'>): ImportBody {
  return {
    ...given, piece: 0, attempt: 0, at: { offset: 0, line: 1 }, rows: 0, points: 0, types: { number: 0, boolean: 0, string: 0 }, refused: {}, samples: [], letters: 0, chunkRows: 0, bytesOut: 0
  }
}

export function bodyOf (job: Job): ImportBody {
  return job.body as unknown as ImportBody
}

/** The body after a piece was written. */
export function afterPiece (body: ImportBody, result: ImportPieceResult): ImportBody {
  const refused: Partial<Record<DeadLetterReason, number>> = { ...body.refused }
  for (const [reason, count] of result.refused) refused[reason] = (refused[reason] ?? 0) + count
  const { number, boolean, string } = body.types
  return {
    ...body,
    piece: body.piece + 1,
    at: { offset: result.next.offset, line: result.next.line },
    rows: body.rows + result.rows,
    points: body.points + result.points,
    types: { number: number + result.types.number, boolean: boolean + result.types.boolean, string: string + result.types.string },
    refused,
    samples: [...body.samples, ...result.samples].slice(0, samplesPerJobMax),
    letters: body.letters + result.letters,
    chunkRows: body.chunkRows + result.chunkRows,
    bytesOut: body.bytesOut + result.bytesOut
  }
}

export function refusedRows (body: ImportBody): number {
  return Object.values(body.refused).reduce((sum, count) => sum + count, 0)
}
