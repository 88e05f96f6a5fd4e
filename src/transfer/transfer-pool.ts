/**
 * The threads of imports and exports: one for imports (a lane of its own, which live ingest does not wait behind), a few for
 * exports. They begin with the first task and end when they have been idle, so a server that transfers nothing pays nothing.
 */
import { Piscina } from 'piscina'
import { resultOf, type Outcome } from '../core/outcome.js'
import type { StoreSpec } from '../../workers/protocol.js'
import type { ExportTask, ImportPieceResult, ImportPieceTask, TransferTask } from '../../workers/transfer-protocol.js'

export interface TransferPoolOptions {
  readonly store: StoreSpec
  /** Exports that run side by side, a thread each. */
  readonly exportsMax: number
}

const idleMs = 60_000
type Pool = Piscina<TransferTask, Outcome<ImportPieceResult | null>>

export class TransferPool {
  readonly #imports: Pool
  readonly #exports: Pool

  constructor ({ store, exportsMax }: TransferPoolOptions) {
    const pool = (threads: number): Pool => new Piscina({
      filename: new URL('../../workers/transfer.js', import.meta.url).href,
      workerData: { store },
      minThreads: 0,
      maxThreads: threads,
      idleTimeout: idleMs,
      // Callers hand over no more than a task a thread; the bound is for the day that is wrong.
      maxQueue: threads + 1,
      atomics: 'disabled'
    })
    this.#imports = pool(1)
    this.#exports = pool(exportsMax)
  }

  async importPiece (task: ImportPieceTask): Promise<ImportPieceResult> {
    return resultOf(await this.#imports.run(task)) as ImportPieceResult
  }

  /** Resolves when the export has ended in whatever way; its bytes and its outcome go through the port. */
  async export (task: ExportTask): Promise<void> {
    resultOf(await this.#exports.run(task, { transferList: [task.port] }))
  }

  /** Waits for a running piece; exports that still run end with their threads. */
  async close (): Promise<void> {
    await Promise.all([this.#imports.close(), this.#exports.destroy()])
  }
}
