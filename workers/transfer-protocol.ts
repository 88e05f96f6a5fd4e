/** Messages between the main thread and the threads that import and export. Plain data: it crosses the thread boundary. */
import type { MessagePort } from 'node:worker_threads'
import type { DeadLetterReason } from '../src/store/dead-letter-store.js'
import type { Tier } from '../src/store/tier-store.js'

export const transferFormats = ['csv', 'ndjson', 'parquet'] as const
export type TransferFormat = typeof transferFormats[number]
/** `wide`: a column a metric. `long`: a row a point, with columns `metric` and `value`. */
export type TransferShape = 'wide' | 'long'
export type ImportTimes = 'auto' | 'iso' | 's' | 'ms' | 'us'
export type ExportTimes = 'iso' | 'ms' | 'us'

export interface ImportSettings {
  readonly format: TransferFormat
  /** `auto`: long where the file has the columns for metric and value. */
  readonly shape: TransferShape | 'auto'
  /** Names of the columns. */
  readonly deviceColumn: string
  readonly tsColumn: string
  readonly metricColumn: string
  readonly valueColumn: string
  /** For rows that name none; null: they are refused. */
  readonly device: string | null
  /** `auto`: numbers are milliseconds, texts ISO 8601. */
  readonly times: ImportTimes
  /** One ASCII character. */
  readonly delimiter: string
  /** CSV: quoted cells are strings, or are read as if they were not quoted. */
  readonly quoted: 'string' | 'any'
  /** CSV: an unquoted cell with this text is no point, as an empty one is. */
  readonly missing: string
}

/** Where an import stands. */
export interface ImportCursor {
  /** Bytes of the file that are done; rows, for Parquet. */
  readonly offset: number
  /** Number of the first line (row, for Parquet) that is not done, from 1. */
  readonly line: number
  /** The header of a CSV file; null before it was read. */
  readonly columns: readonly string[] | null
}

export interface ImportPieceTask {
  readonly kind: 'piece'
  readonly tenant: string
  readonly job: string
  readonly path: string
  readonly settings: ImportSettings
  readonly at: ImportCursor
  /** Identity of the rows that the piece writes, and the accept stamp of its points, µs. */
  readonly journalId: string
  readonly mark: number
  readonly stamp: number
  /** Salts in force at this stamp are used. */
  readonly saltStamp: number
  /** Its entry in the outbox. */
  readonly outboxJournalId: string
  readonly outboxSequence: number
  readonly retentionDays: number
  /** Event times, µs, that are accepted: [oldestTs, newestTs]. */
  readonly oldestTs: number
  readonly newestTs: number
  /** Dead letters that the import may still leave. */
  readonly lettersMax: number
}

export interface RefusedRow {
  readonly line: number
  readonly reason: DeadLetterReason
  readonly detail: string
}

export interface ImportPieceResult {
  readonly next: ImportCursor
  readonly done: boolean
  /** 0 to 1 */
  readonly progress: number
  readonly rows: number
  readonly points: number
  /** Points by type. */
  readonly types: { readonly number: number, readonly boolean: number, readonly string: number }
  /** Rows that were refused, whole or in part, by reason. */
  readonly refused: readonly (readonly [DeadLetterReason, number])[]
  readonly samples: readonly RefusedRow[]
  readonly letters: number
  readonly chunkRows: number
  readonly bytesOut: number
  /** Not empty: nothing was written, because these devices need more salts first (DESIGN 3.3). */
  readonly denser: readonly { readonly device: string, readonly salts: number }[]
  readonly cpuMs: number
}

/** Devices that one export names; `all` has no such bound. */
export const exportDevicesMax = 1000

export interface ExportTask {
  readonly kind: 'export'
  readonly tenant: string
  /** null: all of the tenant. */
  readonly devices: readonly string[] | null
  /** null: all. */
  readonly metrics: readonly string[] | null
  /** µs, [fromTs, toTs) */
  readonly fromTs: number
  readonly toTs: number
  readonly oldestTs: number
  readonly retentionDays: readonly number[]
  readonly tier: 'raw' | Tier
  /** For a tier: what a reader of windows must know of the tenant's retention (src/store/read-windows.ts). */
  readonly tierClasses: Readonly<Record<Tier, readonly number[]>>
  readonly tierOldestTs: Readonly<Record<Tier, number>>
  readonly format: TransferFormat
  readonly shape: TransferShape
  readonly times: ExportTimes
  readonly port: MessagePort
}

/** From the thread. After `end` or `failed` nothing follows. */
export type ExportMessage =
  | { readonly kind: 'bytes', readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: 'end', readonly devices: number, readonly points: number }
  | { readonly kind: 'failed', readonly code: string, readonly detail: string }

/** To the thread: so many more messages with bytes may be sent; or give up. */
export type ExportControl = { readonly kind: 'credit', readonly messages: number } | { readonly kind: 'stop' }

export type TransferTask = ImportPieceTask | ExportTask
