/** Thread entry of the readers: queries into JSON bytes. */
import { workerData } from 'node:worker_threads'
import { systemClock } from '../src/core/clock.js'
import { TwinfoldError, type ErrorCode } from '../src/core/errors.js'
import { silentLog } from '../src/core/log.js'
import { runQuery } from '../src/query/run-query.js'
import { openStore } from '../src/store/open-store.js'
import type { QueryResult, QueryTask, StoreSpec } from './protocol.js'

const { store: spec } = workerData as { store: StoreSpec }
const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: false })

/** A TwinfoldError loses its class between threads, so it is handed over as a value. */
export type QueryOutcome = { readonly result: QueryResult } | { readonly code: ErrorCode, readonly detail: string }

export default async function run (task: QueryTask): Promise<QueryOutcome> {
  try {
    return { result: await runQuery(store, task) }
  } catch (error) {
    if (error instanceof TwinfoldError) return { code: error.code, detail: error.message }
    throw error
  }
}
