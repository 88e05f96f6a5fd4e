/** Thread entry of imports and exports. One store handle per thread; an export runs beside others of its thread. */
import { randomUUID } from 'node:crypto'
import { workerData } from 'node:worker_threads'
import { systemClock } from '../src/core/clock.js'
import { silentLog } from '../src/core/log.js'
import { outcomeOf, type Outcome } from '../src/core/outcome.js'
import { RecordKind } from '../src/journal/record.js'
import { timestampFromIso } from '../src/pipeline/decode/timestamp.js'
import { openStore } from '../src/store/open-store.js'
import { runExport } from '../src/transfer/export-task.js'
import { ImportPieces } from '../src/transfer/import-piece.js'
import type { StoreSpec } from './protocol.js'
import type { ImportPieceResult, TransferTask } from './transfer-protocol.js'

const { store: spec } = workerData as { store: StoreSpec }
const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: false })
const isoUs = (text: string): number => {
  const bytes = Buffer.from(text, 'latin1')
  return timestampFromIso(bytes, 0, bytes.length)
}
const pieces = new ImportPieces({ store, monotonicMs: systemClock.monotonicMs, newGeneration: randomUUID, isoUs, jsonFormat: RecordKind.bodyAuto })

export default async function run (task: TransferTask): Promise<Outcome<ImportPieceResult | null>> {
  return await outcomeOf(async () => {
    if (task.kind === 'piece') return await pieces.run(task)
    await runExport(task, { store })
    return null
  })
}
